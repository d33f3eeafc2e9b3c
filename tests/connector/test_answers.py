"""Answers as services, gateways and strangers give them: a right ranking, or an error of the right class, clean.

Which JSON is a ranking is tested in test_protocol.py.
"""

import asyncio
import base64
import gzip
import json
import urllib.parse
import zlib
from functools import partial

import httpx
import pytest
from asking import passages
from connector.client import RankingClient
from connector.endpoints import resolve_endpoint
from connector.errors import (
    Forbidden,
    InvalidAnswer,
    ModelRetired,
    NotFound,
    Overloaded,
    PassageTooLong,
    PaymentRequired,
    RateLimited,
    RequestRefused,
    RerankError,
    RerankTimeout,
    ServerError,
    ServiceUnreachable,
    TooManyPassages,
    Unauthorized,
)
from connector.reranker import NVIDIARerank
from http_fake import http, keep_alive, serving
from leaks import control_characters, is_spelled, places_of, traceback_of
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import SecretStr

KEY = "zz-SECRET/of+the&test=1"
PASSAGES = passages("a", "b")
BROKEN = (InvalidAnswer, ServiceUnreachable)
OK, CLOSE, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"connection: close\r\n", b"transfer-encoding: chunked\r\n"
GZIP = "content-encoding: gzip"


def nim(*entries, **more):
    return json.dumps({"rankings": [{"index": index, "logit": logit} for index, logit in entries], **more})


def rerank(*entries, **more):
    return json.dumps({"results": [{"index": index, "relevance_score": score} for index, score in entries], **more})


def ok(text, *headers):
    return http(text.encode() if isinstance(text, str) else text, "200 OK", *headers)


def refused(status, body="", *headers):
    return http(body.encode() if isinstance(body, str) else body, f"{status} X", *headers)


def detail(text, status=400, *headers):
    return refused(status, json.dumps({"detail": text}), *headers)


RIGHT = nim((1, 2.5), (0, -1.0))
PACKED = gzip.compress(RIGHT.encode())
RANKED = {
    "plain": ok(RIGHT),
    "kept alive": keep_alive(ok(RIGHT)),
    "gzip": ok(PACKED, GZIP),
    "GZIP with blanks": ok(PACKED, "content-encoding:  GZIP "),
    "identity": ok(RIGHT, "content-encoding: identity"),
    "encoding without a name": ok(RIGHT, "content-encoding:"),
    "another content type": ok(RIGHT, "content-type: text/html; charset=latin-1"),
    "an unknown charset": ok(RIGHT, "content-type: application/json; charset=klingon"),
    "blanks around it": ok(f"\r\n\t {RIGHT}\n\n"),
    "chunked": OK + CHUNKED + b"\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in RIGHT.encode()) + b"0\r\n\r\n",
    "until the connection ends": OK + CLOSE + b"\r\n" + RIGHT.encode(),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + CLOSE + b"\r\n" + RIGHT.encode(),
    "no reason phrase": ok(RIGHT).replace(b"200 OK", b"200 "),
    "early hints first": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + ok(RIGHT),
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + ok(RIGHT),
    "cookies": ok(RIGHT, "set-cookie: a=b", "set-cookie: c=d; domain=.example.com"),
    "minus zero and a tiny number": ok('{"rankings":[{"index":1,"logit":1e-400},{"index":0,"logit":-0.5}]}'),
    "more fields than documented": ok(nim((1, 2.0), (0, 1.0), model="m", id=7, meta={"warnings": [None]})),
}
NO_RANKING = {
    "empty": ok(""),
    "an error with status 200": ok('{"error": {"message": "no such model"}}'),
    "html": ok("<!doctype html><title>Sign in</title>", "content-type: text/html"),
    "xml": ok('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    "half of it": ok(RIGHT[:30]),
    "a stream of events": ok(f"data: {RIGHT}\n\ndata: [DONE]\n\n", "content-type: text/event-stream"),
    "a score of control characters": ok(nim((0, "\x1b[31m\x00\u202e"), (1, 2.0))),
    "escape sequences": ok("\x1b]0;title\x07\x1b[2Jgone\u202eback\x9b31m\u2028\u2029\u200f"),
    "no UTF-8": ok(RIGHT.encode("utf-16")),
    "latin-1": ok(b'{"detail": "\xe4\xf6\xfc"}'),
    "without a body length of any sense": OK + CLOSE + b"\r\n",
    "not gzip": ok(RIGHT, GZIP),
    "gzip cut": ok(PACKED[:-20], GZIP),
    "gzip damaged": ok(PACKED[:12] + b"\xff\xff" + PACKED[14:], GZIP),
    "gzip of nothing": ok(gzip.compress(b""), GZIP),
    "gzip of something else": ok(gzip.compress(b"<html>"), GZIP),
    "a bomb": ok(gzip.compress(bytes(40 * 2**20), 1), GZIP),
    "huge": ok(b" " * (33 * 2**20)),
    "br, for which nobody asked": ok(b"\x8b\x02\x80" + RIGHT.encode(), "content-encoding: br"),
    "another status of success": http(RIGHT.encode(), "206 Partial Content"),
    "no content": b"HTTP/1.1 204 No Content\r\n" + CLOSE + b"\r\n",
    "accepted": http(b"{}", "202 Accepted"),
    "created": http(RIGHT.encode(), "201 Created"),
}
STATUSES = {
    Unauthorized: [401],
    PaymentRequired: [402],
    Forbidden: [403],
    NotFound: [404],
    ModelRetired: [410],
    TooManyPassages: [413],
    RateLimited: [429],
    Overloaded: [503],
    ServerError: [500, 502, 504, 520, 521, 522, 523, 524, 529, 599, 999],
    RequestRefused: [300, 302, 400, 405, 406, 408, 415, 418, 422, 425, 431, 451, 499],
}
REFUSED = {
    **{f"{status}": (refused(status), kind) for kind, statuses in STATUSES.items() for status in statuses},
    "401 digest": (detail("no", 401, 'www-authenticate: Digest realm="x", nonce="y"'), Unauthorized),
    "403 xml": (refused(403, "<Error><Code>AccessDenied</Code></Error>"), Forbidden),
    "404 html": (refused(404, "<html><h1>404 Not Found</h1></html>"), NotFound),
    "422, loc null": (refused(422, '{"detail":[{"loc":null,"msg":null},7,null,[],"x"]}'), RequestRefused),
    "429, Retry-After huge": (detail("slow down", 429, f"retry-after: {'9' * 400}"), RateLimited),
    "429, Retry-After of no sense": (detail("slow down", 429, "retry-after: soon, 5; \u00b2"), RateLimited),
    "429, Retry-After before our time": (detail("x", 429, "retry-after: Mon, 01 Jan 0001 00:00:00 -2359"), RateLimited),
    "429, Retry-After without a zone": (detail("x", 429, "retry-after: Mon, 01 Jan 2024 00:00:00 -0000"), RateLimited),
    "500 nested": (
        refused(500, '{"error":{"message":{"error":{"detail":["CUDA",{"msg":"oom"}]}}}}'),
        ServerError,
    ),
    "500 a list": (refused(500, '["one", {"two": 3}]'), ServerError),
    "500 a number": (refused(500, "5"), ServerError),
    "500 gzip": (http(gzip.compress(b'{"detail":"x"}'), "500 X", GZIP), ServerError),
    "503, much later": (refused(503, "loading", "retry-after: 3600"), Overloaded),
    "301": (refused(301, "", "location: https://elsewhere.example/v1/ranking"), RequestRefused),
    "307 to controls": (refused(307, "", "location: /\x1b[31m\u202ex"), (RequestRefused, InvalidAnswer)),
    "304": (b"HTTP/1.1 304 Not Modified\r\n" + CLOSE + b"\r\n", RequestRefused),
    "too long": (detail("Input length 9004 exceeds maximum allowed token size 8192"), PassageTooLong),
    "controls in the message": (
        detail("x\x1b[2J\x1b]0;t\x07\r\n2026 INFO forged\u202e\u2066\x9b1m\x7f"),
        RequestRefused,
    ),
    "controls in the request id": (detail("x", 400, "x-request-id: \x1b[31m\u202e\x07id"), RequestRefused),
    "no UTF-8 in the request id": (detail("x", 400, "nvcf-reqid: \udcff\udcfe"), RequestRefused),
    "a long request id": (detail("x", 400, f"nvcf-reqid: {'r' * 4000}"), RequestRefused),
    "lone surrogates in the message": (refused(400, r'{"detail":"\ud800 \udfff"}'), RequestRefused),
    "an endless message": (detail("long " * 1_000_000), RequestRefused),
    "no UTF-8 in the message": (refused(400, b'{"detail": "\xff\xfe"}'), RequestRefused),
    "UTF-16 in the message": (refused(400, '{"detail": "wide"}'.encode("utf-16")), RequestRefused),
    "a message nested too deeply": (refused(400, '{"detail":' * 900 + "1" + "}" * 900), RequestRefused),
    "empty members first": (refused(400, '{"detail":"","message":null,"error":[],"title":"T"}'), RequestRefused),
    "nothing": (None, ServiceUnreachable),
    "a head cut": (OK + CLOSE + b"content-le", BROKEN),
    "a body cut": (ok(RIGHT).replace(b"content-length: ", b"content-length: 9"), BROKEN),
    "chunks cut": (OK + CHUNKED + CLOSE + b"\r\n5\r\n{", BROKEN),
    "another protocol": (b"220 mail.example ESMTP connection: close\r\n", BROKEN),
    "no protocol": (b"\x00\x01\x02\xffconnection: close\r\n\r\n", BROKEN),
    "HTTP/2 in the open": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n\r\n", BROKEN),
    "a head of one huge line": (OK + b"x: " + b"y" * 200_000 + b"\r\n" + CLOSE + b"\r\n", BROKEN),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n" + CLOSE + b"\r\n", (RequestRefused, *BROKEN)),
}
MALFORMED = {
    "a chunk of no size": OK + CHUNKED + CLOSE + b"\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a status of words": b"HTTP/1.1 OK 200\r\n" + CLOSE + b"\r\n",
    "a header without a colon": OK + b"header\r\n" + CLOSE + b"\r\n",
    "a length of words": OK + b"content-length: many\r\n" + CLOSE + b"\r\n",
    "a negative length": OK + b"content-length: -1\r\n" + CLOSE + b"\r\n",
}
SPELLINGS = {
    "plain": KEY,
    "upper case": KEY.upper(),
    "percent": urllib.parse.quote(KEY, safe=""),
    "percent, every letter": "".join(f"%{ord(letter):02x}" for letter in KEY),
    "percent, twice": urllib.parse.quote(urllib.parse.quote(KEY, safe=""), safe=""),
    "html": KEY.replace("&", "&amp;"),
    "html numbers": "".join(f"&#{ord(letter)};" for letter in KEY),
    "html hexadecimal": "".join(f"&#x{ord(letter):X};" for letter in KEY),
    "escaped": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "escaped as in a repr": "".join(f"\\x{ord(letter):02x}" for letter in KEY),
    "slashes escaped": KEY.replace("/", "\\/"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a login": base64.b64encode(f"u:{KEY}".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"x{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "after escape sequences": "\x1b[1m".join(KEY),
    "with NULs in it": KEY[:9] + "\x00" + KEY[9:],
    "with marks in it": KEY[:9] + "\u200b" + KEY[9:],
    "on two lines": KEY[:9] + "\r\n" + KEY[9:],
}


def echoes(spelling):
    """Answers that give the key back at one place or another."""
    sent = f"Bearer {spelling}"
    bare = "".join(letter for letter in spelling if letter.isprintable())
    yield detail(f"bad key {spelling}", 401)
    yield refused(401, f"bad key {spelling}")
    yield detail([{"loc": ["header", spelling], "msg": f"not {spelling}"}], 422)
    yield refused(500, json.dumps({"error": {"message": json.dumps({"headers": {"authorization": sent}})}}))
    yield detail("no", 401, f"x-request-id: {bare}", f"nvcf-reqid: {bare}")
    yield refused(307, "", f"location: https://{bare}.example/?key={bare}")
    yield ok(f"<html>{spelling}</html>")
    yield ok(nim((0, spelling), (1, 2.0)))
    yield ok(nim((spelling, 1.0), (1, 2.0)))


def cuts():
    """Answers in which a message is cut within the key."""
    yield from (ok("." * before + KEY) for before in range(150, 205, 3))
    yield from (detail("." * before + KEY, 401) for before in range(470, 505, 3))
    yield from (detail(" " * before + KEY, 401) for before in range(1960, 2005, 4))
    yield from (detail("\x1b[0m" * before + KEY, 401) for before in range(490, 502))
    yield from (refused(500, " " * before + KEY) for before in range(760, 805, 4))
    yield from (detail("no", 401, f"x-request-id: {'r' * before}{KEY}") for before in range(100, 130, 3))
    yield ok(nim((0, "." * 25 + KEY), (1, 2.0)))


def ask(way, address, **arguments):
    """Rank through one kind of client."""
    given = {"api_key": SecretStr(KEY), "max_retries": 0, "deadline": 60, **arguments}
    make = partial(RankingClient, resolve_endpoint(address, None, {}), "m", **given)

    async def call(http_client=None):
        async with make(async_http_client=http_client) as client:
            return await client.arank("q", PASSAGES)

    async def call_given():
        async with httpx.AsyncClient(verify=False, trust_env=False) as http_client:
            return await call(http_client)

    if way == "own":
        with make() as client:
            return client.rank("q", PASSAGES)
    if way == "given":
        with httpx.Client(verify=False, trust_env=False) as http_client:
            return make(http_client=http_client).rank("q", PASSAGES)
    return asyncio.run(call() if way == "own_async" else call_given())


@pytest.fixture(scope="module")
def service():
    with serving() as running:
        yield running


@pytest.fixture(params=["own", "own_async", "given", "given_async"])
def way(request):
    return request.param


@pytest.fixture
def outcome(service, way):
    """Give an answer and return what becomes of it: the result, or the error."""

    def outcome_of(answer, path="/v1"):
        service.script = answer
        try:
            return ask(way, service.origin + path)
        except RerankError as error:
            return error

    return outcome_of


def assert_is_clean(error):
    assert control_characters(error) == []
    assert places_of(error, KEY) == []
    assert len(str(error)) < 2000


@pytest.mark.parametrize("answer", RANKED.values(), ids=RANKED)
def test_a_right_ranking_is_taken_in_every_dress(outcome, answer):
    ranked = outcome(answer)
    assert ranked.logits[1] > ranked.logits[0]


@pytest.mark.parametrize("answer", NO_RANKING.values(), ids=NO_RANKING)
def test_what_is_no_ranking_is_an_invalid_answer(outcome, answer):
    error = outcome(answer)
    assert isinstance(error, InvalidAnswer), repr(error)
    assert_is_clean(error)


@pytest.mark.parametrize(("answer", "kind"), REFUSED.values(), ids=REFUSED)
def test_each_refusal_has_its_class(outcome, answer, kind):
    error = outcome(answer)
    assert isinstance(error, kind), repr(error)
    assert_is_clean(error)


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("way", ["own", "own_async"])
def test_what_is_no_http_is_called_so(outcome, answer):
    error = outcome(answer)
    assert isinstance(error, InvalidAnswer), repr(error)
    assert "not valid HTTP" in str(error)
    assert "could not be reached" not in str(error)


def shown(outcome, answers):
    found = {place: places_of(outcome(answer), KEY) for place, answer in enumerate(answers)}
    return {place: where for place, where in found.items() if where}


@pytest.mark.parametrize("way", ["own"])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_key_that_comes_back_is_hidden_in_every_spelling_and_place(outcome, spelling):
    assert shown(outcome, echoes(spelling)) == {}


@pytest.mark.parametrize("way", ["own"])
def test_a_key_that_is_cut_is_hidden(outcome):
    assert shown(outcome, cuts()) == {}


@pytest.mark.parametrize("way", ["own", "given"])
def test_the_frames_of_an_error_hold_no_answer(outcome):
    found = {place: is_spelled(traceback_of(outcome(answer)), KEY) for place, answer in enumerate(echoes(KEY))}
    assert not any(found.values()), found


@pytest.mark.parametrize("key", ["nvapi-" + "SECRET_of-the-test" * 3, "sk-" + "SECRET0of1the2test" * 4])
def test_a_long_key_is_hidden_where_a_score_is_shown(service, key):
    service.script = ok(nim((0, key), (1, 2.0)))
    with pytest.raises(InvalidAnswer) as raised:
        ask("own", service.base_url, api_key=SecretStr(key))
    assert key[6:20] not in str(raised.value)


TABLE = {**NO_RANKING, **{name: answer for name, (answer, _) in REFUSED.items()}, **MALFORMED}


@pytest.mark.parametrize("answer", TABLE.values(), ids=TABLE)
def test_whatever_is_answered_keep_order_answers(service, answer):
    service.script = answer
    found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("b", "a")]
    arguments = {"base_url": service.base_url, "model": "m", "max_retries": 0, "api_key": KEY}
    with NVIDIARerank(on_failure="keep_order", **arguments) as reranker:
        kept = reranker.postprocess_nodes(found, query_str="q")
    assert [(node.text, node.score) for node in kept] == [("b", 0.5), ("a", 0.5)]
    assert {node.metadata["rerank_failed"] for node in kept} == {type(reranker.last_failure).__name__}


RERANKED = {
    "results": (ok(rerank((1, 0.9), (0, 0.1), meta={"billed_units": {"search_units": 1}})), [0.1, 0.9]),
    "logits": (ok(rerank((1, 9.5), (0, -2))), [-2, 9.5]),
    "the best only": (ok(rerank((1, 0.9))), InvalidAnswer),
    "a NIM's": (ok(RIGHT), InvalidAnswer),
    "a bare list": (ok('[{"index":0,"score":0.1},{"index":1,"score":0.2}]'), InvalidAnswer),
    "under data": (ok('{"data":[{"index":0,"relevance_score":0.1},{"index":1,"relevance_score":0.2}]}'), InvalidAnswer),
    "scores under another name": (ok('{"results":[{"index":0,"score":0.1},{"index":1,"score":0.2}]}'), InvalidAnswer),
    "vLLM's 401": (refused(401, '{"error":"Unauthorized"}'), Unauthorized),
    "LiteLLM's 400": (refused(400, '{"error":{"message":"litellm.X","type":null,"code":"400"}}'), RequestRefused),
    "TEI's 424": (refused(424, '{"error":"Backend error: x","error_type":"Backend"}'), RequestRefused),
    "Cohere's 498": (refused(498, '{"message":"blocked","id":"1"}'), RequestRefused),
}


@pytest.mark.parametrize(("answer", "wanted"), RERANKED.values(), ids=RERANKED)
def test_answers_of_rerank_services(outcome, answer, wanted):
    found = outcome(answer, "/rerank")
    if isinstance(wanted, list):
        assert found.logits == wanted
    else:
        assert isinstance(found, wanted), repr(found)
        assert_is_clean(found)


def test_deflate_is_not_asked_for_and_not_taken(service):
    service.script = ok(zlib.compress(RIGHT.encode()), "content-encoding: deflate")
    with pytest.raises(InvalidAnswer, match="was not asked for"):
        ask("own", service.base_url)
    assert service.rankings[-1].headers["accept-encoding"] == "gzip"


ENDLESS = [(OK + b"content-length: 99999\r\n\r\n", b" "), (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")]


@pytest.mark.parametrize(("first", "part"), ENDLESS, ids=["body", "hints"])
def test_an_answer_that_never_ends_is_left_at_the_deadline(way, first, part):
    with serving(lambda _: running.drip(first, part)) as running, pytest.raises(RerankTimeout):
        ask(way, running.base_url, deadline=0.2)
