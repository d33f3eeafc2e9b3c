import pytest

from nvrerank_helpers.connector import Forbidden, ModelRetired, NotFound, PaymentRequired, RateLimited, Unauthorized
from nvrerank_helpers.lessons.mock_catalog import MockCatalog, make_two_nodes

OLD = "nvidia/llama-3.2-nv-rerankqa-1b-v2"


@pytest.fixture(scope="module")
def lesson():
    with MockCatalog(per_minute=2) as catalog:
        yield catalog


def ask(reranker):
    return [hit.node_id for hit in reranker.postprocess_nodes(make_two_nodes(), query_str="Which animal says meow?")]


def test_it_ranks_for_any_key_and_wherever_the_environment_points(lesson, monkeypatch):
    monkeypatch.setenv("NVIDIA_BASE_URL", "http://127.0.0.1:9/v1")
    assert ask(lesson.reranker()) == ["cat", "stocks"]


def test_its_failing_keys_fail_each_in_its_own_way(lesson):
    seen = []
    for key in lesson.failing_keys:
        with pytest.raises((Unauthorized, PaymentRequired, Forbidden, NotFound)) as refused:
            ask(lesson.reranker(key))
        seen.append(refused.type)
    assert set(seen) == {Unauthorized, PaymentRequired, Forbidden, NotFound}


def test_a_retired_model_answers_410(lesson):
    with pytest.raises(ModelRetired) as gone:
        ask(lesson.reranker("nvapi-old", model=OLD))
    assert gone.value.status == 410


def test_it_limits_the_requests_of_a_minute(lesson):
    reranker = lesson.reranker("nvapi-busy", max_retries=0)
    ask(reranker), ask(reranker)
    with pytest.raises(RateLimited):
        ask(reranker)


def test_its_faults_and_its_requests_can_be_reached(lesson):
    with lesson.control.faults("status=503 times=1"):
        ask(lesson.reranker("nvapi-fault"))
    assert 503 in [request.status for request in lesson.control.requests()]
