"""Haystack's `NvidiaRanker` against the stand-in."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from standin_child import DOTTED, LIVE, PASSAGES, PER_MINUTE, QUERY, TOKENS

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read by the import

pytest.importorskip("haystack_integrations.components.rankers.nvidia", reason="`make clients` runs this")

from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.nvidia import NvidiaRanker

HOSTED = "https://ai.api.nvidia.com"
FAILED = "^Failed to query ranking endpoint"

Pairs = list[tuple[int, float]]


@pytest.fixture
def rankers() -> Iterator[list[NvidiaRanker]]:
    made: list[NvidiaRanker] = []
    yield made
    for ranker in made:
        ranker.close()


def run(ranker: NvidiaRanker, texts: list[str]) -> Pairs:
    documents = [Document(content=text, meta={"position": position}) for position, text in enumerate(texts)]
    return [(document.meta["position"], document.score) for document in ranker.run(QUERY, documents)["documents"]]


@pytest.fixture
def rank(standin, rankers) -> Callable[..., Pairs]:
    def rank(texts: list[str] = PASSAGES, **settings: Any) -> Pairs:
        given = {"model": LIVE, "api_url": standin.base_url, "api_key": None, "top_k": len(texts)} | settings
        rankers.append(NvidiaRanker(**given))
        return run(rankers[-1], texts)

    return rank


@pytest.fixture
def hosted(catalog, rankers, key) -> Callable[..., Pairs]:
    """Rank in the catalog, at the path that Haystack's own table has for the model."""

    def hosted(texts: list[str] = PASSAGES, token: str = key, **settings: Any) -> Pairs:
        given = {"model": LIVE, "top_k": len(texts), "api_url": f"{HOSTED}/v1", "api_key": Secret.from_token(token)}
        ranker = NvidiaRanker(**given | settings)
        rankers.append(ranker)
        ranker.warm_up()
        assert ranker.backend.api_url.startswith(HOSTED)
        ranker.backend.api_url = ranker.backend.api_url.replace(HOSTED, catalog.address)
        return run(ranker, texts)

    return hosted


@pytest.mark.parametrize("behaviour", ["nim-1.9", "nim-1.10", "nim-2"])
def test_order_and_scores_are_the_services_own(rank, standin, own_answer, behaviour):
    with standin.behaviour(behaviour):
        assert rank() == own_answer


@pytest.mark.parametrize("model", [LIVE, DOTTED])
def test_order_and_scores_are_the_services_own_in_the_catalog(hosted, own_answer, model):
    assert hosted(model=model) == own_answer


def test_the_best_n_are_the_first_n(rank, own_answer):
    assert rank(top_k=2) == own_answer[:2]


def test_without_a_key_no_header_is_sent(rank, standin):
    rank()
    assert "authorization" not in dict(standin.requests()[-1]["headers"])


def test_what_is_too_long_is_cut_if_the_client_says_so(rank):
    assert sorted(index for index, _ in rank(["word " * 600, *PASSAGES], truncate="END")) == list(range(6))


@pytest.mark.parametrize(("behaviour", "length"), [("nim-1.9", "1024"), ("nim-1.10", r"6\d\d"), ("nim-2", r"6\d\d")])
def test_what_is_too_long_is_a_value_error_with_the_services_words(rank, standin, behaviour, length):
    words = f"Input length {length} exceeds maximum allowed token size {TOKENS}"
    with standin.behaviour(behaviour), pytest.raises(ValueError, match=f"{FAILED}: .*{words}"):
        rank(["word " * 600], truncate="NONE")


def test_what_is_too_long_for_the_catalog_is_a_value_error_with_the_services_words(hosted):
    with pytest.raises(
        ValueError, match=rf"{FAILED}: .*Input length 6\d\d exceeds maximum allowed token size {TOKENS}"
    ):
        hosted(["word " * 600], truncate="NONE")


def test_a_model_that_is_not_served_is_a_value_error_with_the_services_words(rank):
    with pytest.raises(ValueError, match=f"{FAILED}: .*The model 'me/my-model' is not served here"):
        rank(model="me/my-model")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_in_trouble_is_a_value_error_whose_cause_has_the_status(rank, standin, status):
    with standin.fault(status=status, retry_after="1"), pytest.raises(ValueError, match=FAILED) as caught:
        rank()
    assert caught.value.__cause__.response.status_code == status


@pytest.mark.parametrize(
    ("token", "status", "words"),
    [
        ("not-of-nvidia", 401, "$"),
        ("nvapi-no-credit", 402, ": .*Account has no credits left"),
        ("nvapi-forbidden", 403, ": .*Authorization failed"),
        ("nvapi-other-account", 404, ": .*Not found for account"),
    ],
)
def test_a_key_that_the_catalog_refuses_is_a_value_error(hosted, token, status, words):
    with pytest.raises(ValueError, match=FAILED + words) as caught:
        hosted(token=token)
    assert caught.value.__cause__.response.status_code == status


def test_a_retired_model_of_the_catalog_is_gone(hosted):
    with pytest.raises(ValueError, match=f"{FAILED}: .*reached its end of life on 2026-05-18"):
        hosted(model="nvidia/llama-3.2-nv-rerankqa-1b-v2")


def test_more_requests_than_the_catalog_takes_in_a_minute_are_refused(hosted):
    for _ in range(PER_MINUTE):
        hosted()
    with pytest.raises(ValueError, match=f"{FAILED}: .*Too Many Requests"):
        hosted()


# What this client does not do well


def test_a_fault_that_passes_is_not_tried_again(rank, standin):
    with standin.fault(status=503, times=1), pytest.raises(ValueError, match=FAILED):
        rank()
    assert len(standin.requests()) == 1


def test_all_documents_go_out_in_one_request_which_is_refused_beyond_512(rank):
    with pytest.raises(ValueError, match="at most 512 items"):
        rank(["a"] * 513)


def test_without_a_model_none_is_looked_up_and_null_is_sent(rank, standin):
    with pytest.raises(ValueError, match=f"{FAILED}: .*model: Input should be a valid string"):
        rank(model=None)
    assert '"model": null' in standin.requests()[-1]["body"]


@pytest.mark.parametrize("moment", ["before", "middle"])
def test_a_connection_that_breaks_is_an_error_of_requests(rank, standin, moment):
    with standin.fault(reset=moment), pytest.raises(requests.RequestException, match="reset by peer"):
        rank()


def test_an_answer_that_comes_later_is_taken_for_a_broken_one(hosted, standin):
    with standin.fault(later=0), pytest.raises(requests.JSONDecodeError):
        hosted()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        ("html", requests.JSONDecodeError),
        ("broken", requests.JSONDecodeError),
        ("no_rankings", ValueError),
        ("out_of_range", IndexError),
        ("strings", TypeError),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error_of_some_kind(rank, standin, spoil, error):
    with standin.fault(answer=spoil), pytest.raises(error):
        rank()


@pytest.mark.parametrize("spoil", ["unsorted", "missing", "duplicate", "negative", "nan"])
def test_a_wrong_answer_that_can_be_read_is_taken(rank, standin, spoil):
    with standin.fault(answer=spoil):
        assert rank()
