"""An answer that is not a ranking of what was sent is an error with its own class, and never a result."""

import math

import pytest
from http_fake import reply

from contract.adapters import Fault

BAD_INDEXES = {"over": 2, "negative": -1, "text": "1", "float": 1.0, "bool": True, "null": None}
BAD_LOGITS = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus-infinity": -math.inf,
    "too-big-for-a-float": 10**400,
    "text": "1.0",
    "null": None,
    "bool": True,
    "list": [1.0],
}
NO_RANKINGS = {
    "html-page": reply(b"<html><h1>Log in</h1></html>", 200, "content-type: text/html"),
    "truncated-json": reply(b'{"rankings": [{"index": 0, "logit": 1.5}, {"ind'),
    "deeper-than-any-parser-goes": reply(b"[" * 100_000),
    "not-utf-8": reply(b'{"rankings": "\xff\xfe"}'),
    "empty-body": reply(),
    "no-list": reply({"usage": {"total_tokens": 7}}),
    "null-list": reply({"rankings": None}),
    "list-of-numbers": reply({"rankings": [0.5, 0.25]}),
    "bare-list": reply([{"index": 0, "logit": 1.0}, {"index": 1, "logit": 2.0}]),
    "error-with-200": reply({"error": "model is loading"}),
    "later-without-a-place-to-ask": reply({}, 202),
    "no-content": b"HTTP/1.1 204 X\r\n\r\n",
    "not-what-its-encoding-says": reply(b"plain", 200, "content-encoding: gzip"),
}


def rankings(*pairs):
    return reply({"rankings": [{"index": index, "logit": logit} for index, logit in pairs]})


@pytest.fixture
def invalid(rerank, service):
    """Ask with two passages and this answer: it must be refused as invalid."""

    def refuses(answer):
        service.script = answer
        with pytest.raises(Fault, match=r"^invalid answer"):
            rerank("q", ["1", "2"], max_retries=0)

    return refuses


@pytest.mark.parametrize("index", BAD_INDEXES.values(), ids=BAD_INDEXES)
def test_an_index_that_was_not_sent_is_refused(invalid, index):
    invalid(rankings((0, 2.0), (index, 1.0)))


def test_a_passage_that_is_ranked_twice_is_refused(invalid):
    invalid(rankings((0, 2.0), (1, 1.5), (0, 1.0)))


def test_a_passage_that_is_ranked_twice_in_place_of_another_is_refused(invalid):
    invalid(rankings((0, 2.0), (0, 1.0)))


def test_a_passage_that_is_missing_is_noticed(invalid):
    invalid(rankings((1, 1.0)))


def test_an_empty_ranking_is_refused(invalid):
    invalid(rankings())


@pytest.mark.parametrize("logit", BAD_LOGITS.values(), ids=BAD_LOGITS)
def test_a_logit_that_is_no_finite_number_is_refused(invalid, logit):
    invalid(rankings((0, 2.0), (1, logit)))


@pytest.mark.parametrize("entry", [{"index": 1}, {"logit": 1.0}], ids=["no-logit", "no-index"])
def test_an_entry_without_both_of_its_fields_is_refused(invalid, entry):
    invalid(reply({"rankings": [{"index": 0, "logit": 2.0}, entry]}))


@pytest.mark.parametrize("answer", NO_RANKINGS.values(), ids=NO_RANKINGS)
def test_an_answer_without_rankings_is_refused(invalid, answer):
    invalid(answer)


def test_fields_that_nobody_knows_are_let_through(rerank, service):
    entries = [{"index": 1, "logit": 3, "text": "…"}, {"index": 0, "logit": 1.5, "object": "ranking"}]
    service.next = [reply({"id": "r-1", "rankings": entries, "usage": None})]
    assert rerank("q", ["1", "2"]) == [(1, 3.0), (0, 1.5)]


def test_the_error_shows_the_beginning_of_the_page(rerank, service):
    service.script = NO_RANKINGS["html-page"]
    with pytest.raises(Fault, match="Log in"):
        rerank("q", ["1", "2"])
