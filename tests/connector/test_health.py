from functools import partial

import httpx
import pytest
from connector import health
from connector.client import RankingClient
from connector.endpoints import resolve_endpoint
from connector.errors import InvalidAnswer, RerankTimeout
from connector.health import HealthReport, Step, check_service, wait_until_ready
from fake_service import FakeService


def answers(*contents, models=("m",)):
    """Return a client whose service lists these models and gives these answers, in turn."""
    service = FakeService()
    service.models = list(models)
    service.answers = list(contents)
    return RankingClient(resolve_endpoint("http://nim/v1", None, {}), "m", max_retries=0, http_client=service.client())


RIGHT = {"rankings": [{"index": 1, "logit": 1.0}, {"index": 0, "logit": -1.0}]}


def ok(content):
    return httpx.Response(200, json=content)


def marks(report):
    return {step.name: step.passed for step in report.steps}


def test_a_service_that_works_passes_every_step():
    report = check_service(answers(httpx.Response(200), ok(RIGHT)))
    assert report.passed
    assert marks(report) == {"address": True, "ready": True, "model": True, "ranking": True}


def test_a_service_that_is_not_there_fails_and_the_rest_is_not_tried():
    report = check_service(answers(httpx.ConnectError("refused")))
    assert marks(report) == {"address": True, "ready": False, "model": None, "ranking": None}
    assert "What to do" in str(report)


def test_a_service_that_is_still_loading_is_not_ready():
    assert marks(check_service(answers(httpx.Response(503))))["ready"] is False


def test_a_model_that_is_not_served_is_named_with_those_that_are():
    report = check_service(answers(httpx.Response(200), models=["other"]))
    assert "m is not among other" in str(report)


def test_a_key_that_is_refused_fails_the_ranking():
    report = check_service(answers(httpx.Response(404), httpx.Response(401)))
    assert marks(report) == {"address": True, "ready": None, "model": True, "ranking": False}


def test_a_wrong_order_fails_the_ranking():
    wrong = {"rankings": [{"index": 0, "logit": 1.0}, {"index": 1, "logit": -1.0}]}
    assert "wrong order" in str(check_service(answers(httpx.Response(200), ok(wrong))))


def test_an_endpoint_that_lists_nothing_is_checked_by_ranking_alone():
    service = FakeService()
    service.answers = [ok(RIGHT)]
    client = RankingClient(resolve_endpoint("http://host/x/reranking", None, {}), "m", http_client=service.client())
    assert marks(check_service(client)) == {"address": True, "ready": None, "model": None, "ranking": True}


def test_a_report_is_lines_of_text_and_a_table():
    report = HealthReport([Step("ready", True, "yes"), Step("ranking", False, "<no>", 0.002)])
    assert str(report) == "ok    ready      yes\nFAIL  ranking    <no> (2 ms)"
    assert "&lt;no&gt; (2 ms)" in report._repr_html_()


@pytest.fixture
def starting(monkeypatch):
    """Give `wait_until_ready` a service that answers its looks with these, in turn."""

    def answer_with(*contents):
        service = FakeService()
        service.answers = list(contents)
        monkeypatch.setattr(health, "RankingClient", partial(RankingClient, http_client=service.client()))
        return service

    return answer_with


def test_waiting_ends_when_the_service_is_ready(starting):
    service = starting(httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(200))
    assert wait_until_ready("nim", pause=0) >= 0
    assert [request.url.path for request in service.requests] == ["/v1/health/ready"] * 3


def test_it_pauses_between_two_looks(starting, monkeypatch):
    pauses = []
    monkeypatch.setattr(health, "sleep", pauses.append)
    starting(httpx.Response(503), httpx.Response(503), httpx.Response(200))
    wait_until_ready("nim", pause=2)
    assert pauses == [2, 2]


@pytest.mark.parametrize(
    ("last", "told"),
    [(httpx.Response(503), "answers, and is not ready"), (httpx.ConnectError("refused"), "refused")],
    ids=["loading", "not-there"],
)
def test_waiting_in_vain_says_what_was_seen_last(starting, last, told):
    starting(last)
    with pytest.raises(RerankTimeout, match=f"within 0 seconds: .*{told}"):
        wait_until_ready("nim", timeout=0)


def test_a_service_that_cannot_tell_is_not_waited_for(starting):
    starting(httpx.Response(404))
    with pytest.raises(InvalidAnswer, match="does not say"):
        wait_until_ready("nim")


def test_the_api_catalog_is_not_waited_for():
    with pytest.raises(ValueError, match="give the address of a NIM"):
        wait_until_ready("https://ai.api.nvidia.com/v1")
