import json

import pytest
from connector.dialects import COHERE
from connector.errors import InvalidAnswer, make_status_error, read_server_message
from connector.protocol import argsort_descending, build_nim_payload, parse_answer, sigmoid, split
from hypothesis import given
from hypothesis import strategies as st

logits = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=30)


def answer(*entries, **fields):
    rankings = [{"index": index, "logit": logit} for index, logit in entries]
    return json.dumps({"rankings": rankings, **fields}).encode()


def test_a_request_holds_the_documented_fields_and_nothing_else():
    payload = build_nim_payload("m", "q", [{"text": "a"}], "NONE")
    assert payload == {"model": "m", "query": {"text": "q"}, "passages": [{"text": "a"}], "truncate": "NONE"}
    assert "truncate" not in build_nim_payload("m", "q", [{"text": "a"}], None)


@given(logits, st.randoms(use_true_random=False))
def test_logits_come_back_in_the_order_of_the_passages_however_the_answer_is_sorted(values, random):
    entries = list(enumerate(values))
    random.shuffle(entries)
    assert parse_answer(answer(*entries), len(values)).logits == values


@given(logits)
def test_descending_is_a_stable_permutation(values):
    order = argsort_descending(values)
    assert sorted(order) == list(range(len(values)))
    assert order == [index for _, index in sorted((-value, index) for index, value in enumerate(values))]


def test_tokens_are_read_from_usage():
    assert parse_answer(answer((0, 1.0), usage={"prompt_tokens": 9, "total_tokens": 9}), 1).tokens == 9


@pytest.mark.parametrize(
    "usage", [None, [], [1], {}, {"total_tokens": "many"}, {"total_tokens": -5}, {"total_tokens": 10**400}]
)
def test_usage_may_be_missing_or_strange(usage):
    assert parse_answer(answer((0, 1.0), usage=usage), 1).tokens == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Bad gateway</html>", "not JSON: <html>"),
        (b'{"rankings": [', "not JSON"),
        (b"[]", "without a list of rankings"),
        (b"{}", "without a list of rankings"),
        (b'{"rankings": {}}', "without a list of rankings"),
        (answer((0, 1.0)), "ranked 1 different passages in 1 entries; 2 were sent"),
        (answer((0, 1.0), (0, 2.0)), "ranked 1 different passages in 2 entries; 2 were sent"),
        (answer((0, 1.0), (1, 2.0), (1, 2.0)), "ranked 2 different passages in 3 entries; 2 were sent"),
        (answer((0, 1.0), (2, 2.0)), "index 2 of 2"),
        (answer((0, 1.0), (-1, 2.0)), "index -1 of 2"),
        (answer((0, 1.0), ("1", 2.0)), "index '1' of 2"),
        (answer((0, 1.0), (True, 2.0)), "index True of 2"),
        (answer((0, 1.0), (1, float("nan"))), "passage 1 with nan"),
        (answer((0, 1.0), (1, float("inf"))), "passage 1 with inf"),
        (answer((0, 1.0), (1, "2.0")), "passage 1 with '2.0'"),
        (answer((0, 1.0), (1, True)), "passage 1 with True"),
        (answer((0, 1.0), (1, None)), "passage 1 with None"),
        (b'{"rankings": [1, 2]}', "index None of 2"),
        (
            b'{"rankings": [{"index": 0, "logit": 1' + b"0" * 400 + b'}, {"index": 1, "logit": 1}]}',
            "not a finite number",
        ),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b" ", "not JSON"),
        (b"null", "without a list"),
        (b"7", "without a list"),
        (b'"ranked"', "without a list"),
        (b'{"rankings": null}', "without a list"),
        (b'[{"index": 0, "logit": 1.0}, {"index": 1, "logit": 2.0}]', "without a list"),
        (b'{"results": [{"index": 0, "relevance_score": 0.1}]}', "without a list"),
        (answer((0, 1.0), (1, 2.0)) * 2, "not JSON"),
        (answer((0, 1.0), (1, 2.0)).replace(b"{", b"{\0", 1), "not JSON"),
        (b'{"rankings": [null, null]}', "index None of 2"),
        (b'{"rankings": [{"logit": 1.0}, {"logit": 2.0}]}', "index None of 2"),
        (b'{"rankings": [{"index": 0}, {"index": 1}]}', "passage 0 with None"),
        (b'{"rankings":[{"index":0,"logit":1e999},{"index":1,"logit":2.0}]}', "not a finite number"),
        (answer((0, 1.0), (1.0, 2.0)), "index 1.0 of 2"),
        (answer((0, 1.0), (None, 2.0)), "index None of 2"),
        (answer((0, 1.0), ([1], 2.0)), "index [1] of 2"),
        (answer((0, 1.0), (10**300, 2.0)), "of 2"),
        (answer((0, 1.0), (1, float("-inf"))), "passage 1 with -inf"),
        (answer((0, 1.0), (1, [1.0])), "passage 1 with [1.0]"),
    ],
)
def test_an_answer_that_is_no_ranking_of_two_passages_is_refused_with_the_reason(body, reason):
    with pytest.raises(InvalidAnswer) as refused:
        parse_answer(body, 2)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"status": 403, "title": "Forbidden", "detail": "Authorization failed"}', "Authorization failed"),
        (b'{"object": "error", "message": "Input length 9 exceeds"}', "Input length 9 exceeds"),
        (b'{"error": "Input length 9 exceeds"}', "Input length 9 exceeds"),
        (b'{"error": {"message": "inner"}}', "inner"),
        (b'{"status": 429, "title": "Too Many Requests"}', "Too Many Requests"),
        (b'{"detail": [{"loc": ["body"], "msg": "Field required"}, "also"]}', "body: Field required; also"),
        (b"404 page not found\n", "404 page not found"),
        (b"[1]", "[1]"),
        (b'{"other": 1}', '{"other": 1}'),
        (b"[" * 100_000, "[" * 200 + "…"),
        (b"", ""),
    ],
)
def test_the_servers_own_words_are_found(body, words):
    assert read_server_message(body) == words


def test_a_status_error_carries_everything_that_is_known():
    error = make_status_error(403, b'{"detail": "no"}', model="m", url="u", request_id="r")
    assert (error.status, error.detail, error.model, error.url, error.request_id) == (403, "no", "m", "u", "r")


def test_a_status_without_a_reason_says_so():
    assert "answered 401 without a reason" in str(make_status_error(401, b"", model="m", url="u"))


@given(st.integers(0, 40), st.integers(1, 15))
def test_batches_contain_every_passage_once_and_in_order(count, size):
    found = split(count, size)
    assert [number for batch in found for number in batch] == list(range(count))
    assert all(0 < len(batch) <= size for batch in found)


def test_the_other_dialect_sends_documents():
    payload = COHERE.payload("m", "q", [{"text": "a"}, {"text": "b"}], "END")
    assert payload == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}


def test_the_other_dialect_answers_with_results():
    body = b'{"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}'
    assert parse_answer(body, 2, COHERE).logits == [0.1, 0.9]


@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308), st.floats(0.1, 100))
def test_the_sigmoid_keeps_the_order_between_zero_and_one(one, other, scale):
    low, high = sorted((one, other))
    assert 0 <= sigmoid(low, scale) <= sigmoid(high, scale) <= 1
