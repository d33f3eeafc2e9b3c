"""Answers as services, gateways and strangers give them: a right ranking, or an error of the right class, clean."""

import asyncio
import base64
import gzip
import json
import threading
import urllib.parse
import zlib
from functools import partial

import httpx
import pytest
from connector.client import RankingClient
from connector.endpoints import endpoint
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
from leaks import control_characters, is_spelled, places_of, traceback_of
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import SecretStr
from raw_service import http, keep_alive, serving

KEY = "zz-SECRET/of+the&test=1"
PASSAGES = [{"text": "a"}, {"text": "b"}]
BROKEN = (InvalidAnswer, ServiceUnreachable)


def nim(*entries, **more):
    return json.dumps({"rankings": [{"index": index, "logit": logit} for index, logit in entries], **more})


def rerank(*entries, **more):
    return json.dumps({"results": [{"index": index, "relevance_score": score} for index, score in entries], **more})


def ok(text, *headers):
    return http(text.encode() if isinstance(text, str) else text, "200 OK", *headers)


def refused(status, body, *headers):
    return http(body.encode() if isinstance(body, str) else body, f"{status} X", *headers)


def detail(text, status=400, *headers):
    return refused(status, json.dumps({"detail": text}), *headers)


RIGHT = nim((1, 2.5), (0, -1.0))
PACKED = gzip.compress(RIGHT.encode())

RANKED = {
    "plain": ok(RIGHT),
    "kept alive": keep_alive(ok(RIGHT)),
    "gzip": ok(PACKED, "content-encoding: gzip"),
    "GZIP with blanks": ok(PACKED, "content-encoding:  GZIP "),
    "identity": ok(RIGHT, "content-encoding: identity"),
    "encoding without a name": ok(RIGHT, "content-encoding:"),
    "another content type": ok(RIGHT, "content-type: text/html; charset=latin-1"),
    "an unknown charset": ok(RIGHT, "content-type: application/json; charset=klingon"),
    "no content type": ok(RIGHT),
    "blanks around it": ok(f"\r\n\t {RIGHT}\n\n"),
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in RIGHT.encode())
    + b"0\r\n\r\n",
    "until the connection ends": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + RIGHT.encode(),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n" + RIGHT.encode(),
    "no reason phrase": ok(RIGHT).replace(b"200 OK", b"200 "),
    "early hints first": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + ok(RIGHT),
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + ok(RIGHT),
    "cookies": ok(RIGHT, "set-cookie: a=b", "set-cookie: c=d; domain=.example.com"),
    "a whole number": ok(nim((1, 3), (0, -1))),
    "minus zero and a tiny number": ok('{"rankings":[{"index":1,"logit":1e-400},{"index":0,"logit":-0.5}]}'),
    "the largest number": ok(nim((1, 1.7976931348623157e308), (0, -1.7976931348623157e308))),
    "more fields than documented": ok(nim((1, 2.0), (0, 1.0), model="m", id=7, meta={"warnings": [None]})),
    "negative token counts": ok(nim((1, 2.0), (0, 1.0), usage={"prompt_tokens": -5, "total_tokens": -5})),
    "a token count of another kind": ok(nim((1, 2.0), (0, 1.0), usage={"total_tokens": "many"})),
    "usage of another kind": ok(nim((1, 2.0), (0, 1.0), usage=[1])),
    "an endless token count": ok(nim((1, 2.0), (0, 1.0), usage={"total_tokens": 10**400})),
}

NO_RANKING = {
    "empty": ok(""),
    "a blank": ok(" "),
    "null": ok("null"),
    "a number": ok("7"),
    "a string": ok('"ranked"'),
    "an empty list": ok("[]"),
    "an empty object": ok("{}"),
    "a list of rankings": ok(json.dumps([{"index": 0, "logit": 1.0}, {"index": 1, "logit": 2.0}])),
    "rankings null": ok('{"rankings": null}'),
    "rankings an object": ok('{"rankings": {"0": 1.0, "1": 2.0}}'),
    "entries are numbers": ok('{"rankings": [1.0, 2.0]}'),
    "entries are null": ok('{"rankings": [null, null]}'),
    "the other dialect": ok(rerank((0, 0.1), (1, 0.2))),
    "an error with status 200": ok('{"error": {"message": "no such model"}}'),
    "html": ok("<!doctype html><title>Sign in</title>", "content-type: text/html"),
    "xml": ok('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    "half of it": ok(RIGHT[:30]),
    "two of it": ok(RIGHT + RIGHT),
    "a stream of events": ok(f"data: {RIGHT}\n\ndata: [DONE]\n\n", "content-type: text/event-stream"),
    "too few": ok(nim((0, 1.0))),
    "too many": ok(nim((0, 1.0), (1, 2.0), (2, 3.0))),
    "an index twice": ok(nim((0, 1.0), (0, 2.0))),
    "three entries for two": ok(nim((0, 1.0), (1, 2.0), (1, 2.0))),
    "a negative index": ok(nim((0, 1.0), (-1, 2.0))),
    "indexes from one": ok(nim((1, 1.0), (2, 2.0))),
    "an index true": ok(nim((0, 1.0), (True, 2.0))),
    "an index 1.0": ok(nim((0, 1.0), (1.0, 2.0))),
    "an index in quotes": ok(nim((0, 1.0), ("1", 2.0))),
    "an index null": ok(nim((0, 1.0), (None, 2.0))),
    "an index of a list": ok(nim((0, 1.0), ([1], 2.0))),
    "a huge index": ok(nim((0, 1.0), (10**300, 2.0))),
    "no index": ok('{"rankings": [{"logit": 1.0}, {"logit": 2.0}]}'),
    "NaN": ok(nim((0, float("nan")), (1, 2.0))),
    "Infinity": ok(nim((0, float("inf")), (1, 2.0))),
    "-Infinity": ok(nim((0, float("-inf")), (1, 2.0))),
    "1e999": ok('{"rankings":[{"index":0,"logit":1e999},{"index":1,"logit":2.0}]}'),
    "an integer beyond any float": ok(nim((0, 10**400), (1, 2.0))),
    "a score in quotes": ok(nim((0, "1.0"), (1, 2.0))),
    "a score null": ok(nim((0, None), (1, 2.0))),
    "a score true": ok(nim((0, True), (1, 2.0))),
    "a score of a list": ok(nim((0, [1.0]), (1, 2.0))),
    "a score of control characters": ok(nim((0, "\x1b[31m\x00\u202e"), (1, 2.0))),
    "no score": ok('{"rankings": [{"index": 0}, {"index": 1}]}'),
    "NUL in it": ok(RIGHT.replace("{", "{\x00", 1)),
    "escape sequences": ok("\x1b]0;title\x07\x1b[2Jgone\u202eback\x9b31m\u2028\u2029\u200f"),
    "no UTF-8": ok(RIGHT.encode("utf-16")),
    "latin-1": ok(b'{"detail": "\xe4\xf6\xfc"}'),
    "nested too deeply": ok("[" * 100_000),
    "objects nested too deeply": ok('{"a":' * 100_000),
    "200 without a body length of any sense": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    "not gzip": ok(RIGHT, "content-encoding: gzip"),
    "gzip cut": ok(PACKED[:-20], "content-encoding: gzip"),
    "gzip damaged": ok(PACKED[:12] + b"\xff\xff" + PACKED[14:], "content-encoding: gzip"),
    "gzip of nothing": ok(gzip.compress(b""), "content-encoding: gzip"),
    "gzip of something else": ok(gzip.compress(b"<html>"), "content-encoding: gzip"),
    "a bomb": ok(gzip.compress(bytes(40 * 2**20), 1), "content-encoding: gzip"),
    "huge": ok(b" " * (33 * 2**20)),
    "br, for which nobody asked": ok(b"\x8b\x02\x80" + RIGHT.encode(), "content-encoding: br"),
    "another status of success": http(RIGHT.encode(), "206 Partial Content"),
    "no content": b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    "accepted": http(b"{}", "202 Accepted"),
    "created": http(RIGHT.encode(), "201 Created"),
}

REFUSED = {
    "400": (detail("no"), RequestRefused),
    "400 empty": (refused(400, ""), RequestRefused),
    "401": (detail("no", 401, "www-authenticate: Bearer"), Unauthorized),
    "401 digest": (detail("no", 401, 'www-authenticate: Digest realm="x", nonce="y"'), Unauthorized),
    "402": (detail("no", 402), PaymentRequired),
    "403 xml": (refused(403, "<Error><Code>AccessDenied</Code></Error>"), Forbidden),
    "404 html": (refused(404, "<html><h1>404 Not Found</h1></html>"), NotFound),
    "405": (refused(405, '{"detail":"Method Not Allowed"}', "allow: GET"), RequestRefused),
    "406": (refused(406, ""), RequestRefused),
    "408": (refused(408, ""), RequestRefused),
    "410": (detail("end of life", 410), ModelRetired),
    "413 plain": (refused(413, "length limit exceeded"), TooManyPassages),
    "415": (refused(415, "Expected request with `Content-Type: application/json`"), RequestRefused),
    "418": (refused(418, "[]"), RequestRefused),
    "422 of FastAPI": (
        refused(422, '{"detail":[{"loc":["body","passages",0,"text"],"msg":"Field required","type":"missing"}]}'),
        RequestRefused,
    ),
    "422 of FastAPI, loc null": (refused(422, '{"detail":[{"loc":null,"msg":null},7,null,[],"x"]}'), RequestRefused),
    "425": (refused(425, ""), RequestRefused),
    "429 without Retry-After": (detail("slow down", 429), RateLimited),
    "429, Retry-After huge": (detail("slow down", 429, f"retry-after: {'9' * 400}"), RateLimited),
    "429, Retry-After of no sense": (detail("slow down", 429, "retry-after: soon, 5; \u00b2"), RateLimited),
    "429, Retry-After before our time": (detail("x", 429, "retry-after: Mon, 01 Jan 0001 00:00:00 -2359"), RateLimited),
    "429, Retry-After without a zone": (detail("x", 429, "retry-after: Mon, 01 Jan 2024 00:00:00 -0000"), RateLimited),
    "431": (refused(431, ""), RequestRefused),
    "451": (refused(451, '{"title":"Unavailable For Legal Reasons"}'), RequestRefused),
    "499": (refused(499, ""), RequestRefused),
    "500 nested": (
        refused(500, '{"error":{"message":{"error":{"detail":["CUDA error",{"msg":"oom"}]}}}}'),
        ServerError,
    ),
    "500 a list": (refused(500, '["one", {"two": 3}]'), ServerError),
    "500 a number": (refused(500, "5"), ServerError),
    "500 gzip": (http(gzip.compress(b'{"detail":"x"}'), "500 X", "content-encoding: gzip"), ServerError),
    "502 html": (refused(502, "<html>Bad Gateway</html>"), ServerError),
    "503": (refused(503, "loading", "retry-after: 3600"), Overloaded),
    "504": (refused(504, ""), ServerError),
    "520": (refused(520, "Web server is returning an unknown error"), ServerError),
    "521": (refused(521, ""), ServerError),
    "522": (refused(522, ""), ServerError),
    "523": (refused(523, ""), ServerError),
    "524": (refused(524, "A timeout occurred"), ServerError),
    "529": (refused(529, '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'), ServerError),
    "599": (refused(599, ""), ServerError),
    "999": (refused(999, "Request denied"), ServerError),
    "300": (refused(300, ""), RequestRefused),
    "301": (refused(301, "", "location: https://elsewhere.example/v1/ranking"), RequestRefused),
    "302 without a location": (refused(302, ""), RequestRefused),
    "307 to controls": (refused(307, "", "location: /\x1b[31m\u202ex"), (RequestRefused, InvalidAnswer)),
    "304": (b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n", RequestRefused),
    "too long": (detail("Input length 9004 exceeds maximum allowed token size 8192"), PassageTooLong),
    "controls in the message": (
        detail("x\x1b[2J\x1b]0;t\x07\r\n2026 INFO forged\u202e\u2066\x9b1m\x00\x7f"),
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
    "a head cut": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-le", BROKEN),
    "a body cut": (ok(RIGHT).replace(b"content-length: ", b"content-length: 9"), BROKEN),
    "chunks cut": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\n{", BROKEN),
    "another protocol": (b"220 mail.example ESMTP connection: close\r\n", BROKEN),
    "no protocol": (b"\x00\x01\x02\xffconnection: close\r\n\r\n", BROKEN),
    "HTTP/2 in the open": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n\r\n", BROKEN),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: close\r\n\r\n", (RequestRefused, *BROKEN)),
}

MALFORMED = {
    "a chunk of no size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    b"zz\r\n{}\r\n0\r\n\r\n",
    "a status of words": b"HTTP/1.1 OK 200\r\nconnection: close\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nheader\r\nconnection: close\r\n\r\n",
    "a length of words": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\nconnection: close\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\nconnection: close\r\n\r\n",
}

TOO_LONG = {
    "head of one huge line": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\nconnection: close\r\n\r\n",
}

HTML = "".join(f"&#{ord(letter)};" for letter in KEY)
SPELLINGS = {
    "plain": KEY,
    "upper case": KEY.upper(),
    "percent": urllib.parse.quote(KEY, safe=""),
    "percent, every letter": "".join(f"%{ord(letter):02x}" for letter in KEY),
    "percent, twice": urllib.parse.quote(urllib.parse.quote(KEY, safe=""), safe=""),
    "html": KEY.replace("&", "&amp;"),
    "html numbers": HTML,
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
    for before in range(150, 205, 3):
        yield ok("." * before + KEY)
    for before in range(470, 505, 3):
        yield detail("." * before + KEY, 401)
    for before in range(1960, 2005, 4):
        yield detail(" " * before + KEY, 401)
        yield detail("\x1b[0m" * (before // 4) + KEY, 401)
    for before in range(760, 805, 4):
        yield refused(500, " " * before + KEY)
    for before in range(100, 130, 3):
        yield detail("no", 401, f"x-request-id: {'r' * before}{KEY}")
    yield ok(nim((0, "." * 25 + KEY), (1, 2.0)))


class Ways:
    """A ranking through each kind of client."""

    def __init__(self, address, **arguments):
        given = {"api_key": SecretStr(KEY), "max_retries": 0, "deadline": 30, **arguments}
        self.client = partial(RankingClient, endpoint(address, None, {}), "m", **given)

    def own(self):
        with self.client() as client:
            return client.rank("q", PASSAGES)

    def own_async(self):
        async def call():
            async with self.client() as client:
                return await client.arank("q", PASSAGES)

        return asyncio.run(call())

    def given(self):
        with httpx.Client(verify=False, trust_env=False) as http_client:
            return self.client(http_client=http_client).rank("q", PASSAGES)

    def given_async(self):
        async def call():
            async with httpx.AsyncClient(verify=False, trust_env=False) as http_client:
                return await self.client(async_http_client=http_client).arank("q", PASSAGES)

        return asyncio.run(call())


@pytest.fixture(scope="module")
def service():
    """A service that lists no models and answers a ranking with `service.reply`."""

    def answer(head, _):
        return http(b"", "404 Not Found") if head.startswith(b"GET ") else running.reply

    with serving(answer) as running:
        yield running


@pytest.fixture(params=["own", "own_async", "given", "given_async"])
def way(request):
    return request.param


@pytest.fixture
def ask(service, way):
    """Give an answer and return what becomes of it: the logits, or the error."""

    def asked(reply, path="/v1"):
        service.reply = reply
        try:
            return getattr(Ways(service.origin + path), way)()
        except RerankError as error:
            return error

    return asked


def assert_clean(error):
    assert control_characters(error) == []
    assert places_of(error, KEY) == []


@pytest.mark.parametrize("reply", RANKED.values(), ids=RANKED)
def test_a_right_ranking_is_taken_in_every_dress(ask, reply):
    ranked = ask(reply)
    assert ranked.logits[1] > ranked.logits[0]
    assert ranked.tokens == 0


@pytest.mark.parametrize("reply", NO_RANKING.values(), ids=NO_RANKING)
def test_what_is_no_ranking_is_an_invalid_answer(ask, reply, request):
    error = ask(reply)
    assert isinstance(error, InvalidAnswer), repr(error)
    assert_clean(error)


@pytest.mark.parametrize(("reply", "kind"), REFUSED.values(), ids=REFUSED)
def test_each_refusal_has_its_class(ask, reply, kind):
    error = ask(reply)
    assert isinstance(error, kind), repr(error)
    assert len(str(error)) < 2000
    assert_clean(error)


@pytest.mark.parametrize("reply", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("way", ["own", "own_async"])
def test_what_is_no_http_is_called_so(ask, reply):
    error = ask(reply)
    assert isinstance(error, InvalidAnswer), repr(error)
    assert "not valid HTTP" in str(error)
    assert "could not be reached" not in str(error)


@pytest.mark.parametrize("reply", TOO_LONG.values(), ids=TOO_LONG)
def test_a_head_without_end_is_an_error(ask, reply):
    assert isinstance(ask(reply), BROKEN)


@pytest.mark.parametrize("way", ["own"])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_key_that_comes_back_is_hidden_in_every_spelling_and_place(ask, spelling):
    found = {place: places_of(ask(reply), KEY) for place, reply in enumerate(echoes(spelling))}
    assert {place: where for place, where in found.items() if where} == {}


@pytest.mark.parametrize("way", ["own", "given"])
def test_the_frames_of_an_error_hold_no_answer(ask):
    found = {place: is_spelled(traceback_of(ask(reply)), KEY) for place, reply in enumerate(echoes(KEY))}
    assert not any(found.values()), found


@pytest.mark.parametrize("way", ["own"])
def test_a_key_that_is_cut_is_hidden(ask):
    found = {place: places_of(ask(reply), KEY) for place, reply in enumerate(cuts())}
    assert {place: where for place, where in found.items() if where} == {}


@pytest.mark.parametrize("key", ["nvapi-" + "SECRET_of-the-test" * 3, "sk-" + "SECRET0of1the2test" * 4])
def test_a_long_key_is_hidden_where_a_score_is_shown(service, key):
    service.reply = ok(nim((0, key), (1, 2.0)))
    with pytest.raises(InvalidAnswer) as raised:
        Ways(f"{service.origin}/v1", api_key=SecretStr(key)).own()
    assert key[6:20] not in str(raised.value)


TABLE = {**NO_RANKING, **{name: reply for name, (reply, _) in REFUSED.items()}, **MALFORMED, **TOO_LONG}


@pytest.mark.parametrize("reply", TABLE.values(), ids=TABLE)
def test_whatever_is_answered_keep_order_answers(service, reply):
    service.reply = reply
    found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("b", "a")]
    arguments = {"base_url": f"{service.origin}/v1", "model": "m", "max_retries": 0, "api_key": KEY}
    with NVIDIARerank(on_failure="keep_order", **arguments) as reranker:
        kept = reranker.postprocess_nodes(found, query_str="q")
    assert [(node.text, node.score) for node in kept] == [("b", 0.5), ("a", 0.5)]
    assert {node.metadata["rerank_failed"] for node in kept} == {type(reranker.last_failure).__name__}


RERANKED = {
    "results": (ok(rerank((1, 0.9), (0, 0.1))), [0.1, 0.9]),
    "logits": (ok(rerank((1, 9.5), (0, -2))), [-2, 9.5]),
    "documents sent back": (
        ok(
            '{"results":[{"index":0,"relevance_score":0.1,"document":{"text":"\\u0000"}},{"index":1,"relevance_score":1}]}'
        ),
        [0.1, 1],
    ),
    "tokens": (ok(rerank((1, 0.9), (0, 0.1), meta={"billed_units": {"search_units": 1}})), [0.1, 0.9]),
    "the best only": (ok(rerank((1, 0.9))), InvalidAnswer),
    "a NIM's": (ok(RIGHT), InvalidAnswer),
    "a bare list": (ok('[{"index":0,"score":0.1},{"index":1,"score":0.2}]'), InvalidAnswer),
    "under data": (ok('{"data":[{"index":0,"relevance_score":0.1},{"index":1,"relevance_score":0.2}]}'), InvalidAnswer),
    "scores under another name": (ok('{"results":[{"index":0,"score":0.1},{"index":1,"score":0.2}]}'), InvalidAnswer),
    "vLLM's 401": (refused(401, '{"error":"Unauthorized"}'), Unauthorized),
    "TEI's 401": (refused(401, ""), Unauthorized),
    "LiteLLM's 400": (
        refused(400, '{"error":{"message":"litellm.X: \\"a\\"","type":null,"code":"400"}}'),
        RequestRefused,
    ),
    "TEI's 424": (refused(424, '{"error":"Backend error: x","error_type":"Backend"}'), RequestRefused),
    "Cohere's 498": (refused(498, '{"message":"blocked","id":"1"}'), RequestRefused),
}


@pytest.mark.parametrize(("reply", "wanted"), RERANKED.values(), ids=RERANKED)
def test_answers_of_rerank_services(ask, reply, wanted):
    found = ask(reply, "/rerank")
    if isinstance(wanted, list):
        assert found.logits == wanted
    else:
        assert isinstance(found, wanted), repr(found)
        assert_clean(found)


def test_deflate_is_not_asked_for_and_not_taken(service):
    service.reply = ok(zlib.compress(RIGHT.encode()), "content-encoding: deflate")
    with pytest.raises(InvalidAnswer, match="was not asked for"):
        Ways(f"{service.origin}/v1").own()
    assert b"accept-encoding: gzip\r\n" in service.heads[-1].lower()


@pytest.mark.parametrize("part", [b" ", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_an_answer_that_never_ends_is_left_at_the_deadline(service, way, part):
    def drip():
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" if part == b" " else part
        while not service.over.wait(0.01):
            yield part

    class Endless:
        def __iter__(self):
            return drip()

    service.over = threading.Event()
    service.reply = Endless()
    with pytest.raises(RerankTimeout):
        getattr(Ways(f"{service.origin}/v1", deadline=0.2), way)()
    service.over.set()
