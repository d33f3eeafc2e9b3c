"""LiteLLM's `nvidia_nim` rerank routes against the stand-in."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from standin_child import DOTTED, LIVE, PASSAGES, PER_MINUTE, QUERY, TOKENS

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read by the import, which would fetch a list of prices

litellm = pytest.importorskip("litellm", reason="`make clients` runs this")

RANKING = "nvidia_nim/ranking/"  # posts to /v1/ranking
RETRIEVAL = "nvidia_nim/"  # posts to the path that the catalog has for the model
KEY = "nvapi-of-this-test"

Pairs = list[tuple[int, float]]


@pytest.fixture(autouse=True)
def less_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)


def pairs(answer: Any) -> Pairs:
    return [(result["index"], result["relevance_score"]) for result in answer.results]


@pytest.fixture
def rank(standin) -> Callable[..., Pairs]:
    def rank(texts: list[str] = PASSAGES, model: str = RANKING + LIVE, **settings: Any) -> Pairs:
        given = {"api_base": standin.base_url, "api_key": KEY} | settings
        return pairs(litellm.rerank(model=model, query=QUERY, documents=texts, **given))

    return rank


@pytest.fixture
def hosted(catalog, rank, key) -> Callable[..., Pairs]:
    def hosted(texts: list[str] = PASSAGES, model: str = RETRIEVAL + LIVE, **settings: Any) -> Pairs:
        return rank(texts, model, **{"api_base": catalog.address, "api_key": key} | settings)

    return hosted


@pytest.mark.parametrize("behaviour", ["nim-1.9", "nim-1.10", "nim-2"])
@pytest.mark.parametrize("route", [RANKING, RETRIEVAL], ids=["ranking", "retrieval"])
def test_order_and_scores_are_the_services_own(rank, standin, own_answer, behaviour, route):
    with standin.behaviour(behaviour):
        assert rank(model=route + LIVE) == own_answer


def test_order_and_scores_are_the_services_own_in_the_catalog(hosted, own_answer):
    assert hosted() == own_answer


def test_the_async_call_gives_the_same(standin, own_answer):
    given = {"api_base": standin.base_url, "api_key": KEY}
    answer = asyncio.run(litellm.arerank(model=RANKING + LIVE, query=QUERY, documents=PASSAGES, **given))
    assert pairs(answer) == own_answer


@pytest.mark.parametrize("behaviour", ["nim-1.10", "nim-2"])
def test_the_best_n_are_the_first_n_by_the_ranking_route(rank, standin, own_answer, behaviour):
    with standin.behaviour(behaviour):
        assert rank(top_n=2) == own_answer[:2]


def test_the_tokens_of_the_service_are_handed_on(standin):
    given = {"api_base": standin.base_url, "api_key": KEY}
    answer = litellm.rerank(model=RANKING + LIVE, query=QUERY, documents=PASSAGES, **given)
    assert answer.meta["billed_units"]["total_tokens"] > len(PASSAGES) * 10


def test_what_is_too_long_is_cut_if_the_client_says_so(rank):
    assert sorted(index for index, _ in rank(["word " * 600, *PASSAGES], truncate="END")) == list(range(6))


@pytest.mark.parametrize(
    ("behaviour", "status", "length"), [("nim-1.9", 400, "1024"), ("nim-1.10", 422, r"6\d\d"), ("nim-2", 400, r"6\d\d")]
)
def test_what_is_too_long_is_a_bad_request_with_the_services_words(rank, standin, behaviour, status, length):
    words = f"Input length {length} exceeds maximum allowed token size {TOKENS}"
    with standin.behaviour(behaviour), pytest.raises(litellm.BadRequestError, match=words) as caught:
        rank(["word " * 600], truncate="NONE")
    assert caught.value.status_code == status


def test_what_is_too_long_for_the_catalog_is_a_bad_request_with_the_services_words(hosted):
    with pytest.raises(litellm.BadRequestError, match=rf"Input length 6\d\d exceeds .* token size {TOKENS}") as caught:
        hosted(["word " * 600], truncate="NONE")
    assert caught.value.status_code == 400


def test_a_model_that_is_not_served_is_not_found(rank):
    with pytest.raises(litellm.NotFoundError, match="The model 'me/my-model' is not served here"):
        rank(model=f"{RANKING}me/my-model")


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, litellm.RateLimitError), (500, litellm.InternalServerError), (503, litellm.ServiceUnavailableError)],
)
def test_a_service_in_trouble_is_told_by_the_class(rank, standin, status, error):
    with standin.fault(status=status, retry_after="1"), pytest.raises(error, match="a fault was set"):
        rank()


@pytest.mark.parametrize(
    ("token", "status", "error", "words"),
    [  # the 401 comes without words
        ("not-of-nvidia", 401, litellm.AuthenticationError, "Nvidia_nimException - $"),
        ("nvapi-no-credit", 402, litellm.APIError, "Account has no credits left"),
        ("nvapi-forbidden", 403, litellm.APIError, "Authorization failed"),
        ("nvapi-other-account", 404, litellm.NotFoundError, "Not found for account"),
    ],
)
def test_a_key_that_the_catalog_refuses_is_told_by_the_status(hosted, token, status, error, words):
    with pytest.raises(error, match=words) as caught:
        hosted(api_key=token)
    assert caught.value.status_code == status


def test_a_retired_model_of_the_catalog_is_gone(hosted):
    with pytest.raises(litellm.APIError, match="reached its end of life on 2026-05-18") as caught:
        hosted(model=f"{RETRIEVAL}nvidia/llama-3_2-nv-rerankqa-1b-v2")
    assert caught.value.status_code == 410


def test_more_requests_than_the_catalog_takes_in_a_minute_are_refused(hosted):
    for _ in range(PER_MINUTE):
        hosted()
    with pytest.raises(litellm.RateLimitError, match="Too Many Requests"):
        hosted()


# What this client does not do well


def test_a_dot_of_a_model_has_to_be_written_as_in_the_path_of_the_catalog(hosted, own_answer):
    with pytest.raises(litellm.NotFoundError, match="404 page not found"):
        hosted(model=RETRIEVAL + DOTTED)
    assert hosted(model=RETRIEVAL + DOTTED.replace(".", "_")) == own_answer


def test_so_a_model_with_an_underscore_in_its_name_is_out_of_reach(rank):
    with pytest.raises(litellm.NotFoundError, match=r"The model 'me/my\.model' is not served here"):
        rank(model=f"{RANKING}me/my_model")


def test_the_retrieval_route_leaves_the_best_n_to_the_service_which_never_cuts(rank, standin, own_answer):
    assert rank(model=RETRIEVAL + LIVE, top_n=2) == own_answer
    with standin.behaviour("nim-2"), pytest.raises(litellm.BadRequestError, match="top_k: unknown field"):
        rank(model=RETRIEVAL + LIVE, top_n=2)


def test_a_key_is_demanded_also_by_a_service_that_needs_none(rank):
    with pytest.raises(litellm.APIConnectionError, match="Nvidia NIM API key is required"):
        rank(api_key=None)


def test_a_fault_that_passes_is_not_tried_again(rank, standin):
    with standin.fault(status=503, times=1), pytest.raises(litellm.ServiceUnavailableError):
        rank(num_retries=2)
    assert len(standin.requests()) == 1


def test_all_documents_go_out_in_one_request_which_is_refused_beyond_512(rank):
    with pytest.raises(litellm.BadRequestError, match="at most 512 items"):
        rank(["a"] * 513)


def test_a_connection_that_breaks_is_told_as_a_500_of_the_service(rank, standin):
    with standin.fault(reset="before"), pytest.raises(litellm.InternalServerError, match="reset by peer"):
        rank()


def test_an_answer_that_comes_later_is_an_error_with_status_202(hosted, standin):
    with standin.fault(later=0), pytest.raises(litellm.APIError) as caught:
        hosted()
    assert caught.value.status_code == 202


def test_an_answer_without_rankings_is_an_empty_result(rank, standin):
    with standin.fault(answer="no_rankings"):
        assert rank() == []


@pytest.mark.parametrize("spoil", ["html", "broken"])
def test_an_answer_that_is_no_json_is_an_error_with_status_200(rank, standin, spoil):
    with standin.fault(answer=spoil), pytest.raises(litellm.APIError) as caught:
        rank()
    assert caught.value.status_code == 200


@pytest.mark.parametrize("spoil", ["unsorted", "missing", "duplicate", "negative", "out_of_range", "nan"])
def test_a_wrong_answer_that_can_be_read_is_taken(rank, standin, spoil):
    with standin.fault(answer=spoil):
        assert rank()


def test_an_unsorted_answer_is_sorted_only_to_cut_it(rank, standin, own_answer):
    with standin.fault(answer="unsorted"):
        assert rank() != own_answer
        assert rank(top_n=2) == own_answer[:2]
