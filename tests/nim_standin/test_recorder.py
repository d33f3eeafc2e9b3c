"""The recorder: what a client sent, word for word but for its keys, and without holding anything up."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send
from tiny_standin import BODY, TinyStandIn

from nvrerank_helpers.nim_standin.server.recorder import (
    MOST_BODY_BYTES,
    MOST_REQUESTS,
    Recorded,
    Recorder,
    Records,
    redacted,
)

RANKING = "/v1/ranking"
KEY = "nvapi-Zq8_secret-0123456789"


@pytest.fixture
def standin() -> TinyStandIn:
    return TinyStandIn()


@pytest.fixture
async def client(standin: TinyStandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with standin.client() as client:
        yield client


async def sent(standin: TinyStandIn, client: httpx.AsyncClient, content: bytes, path: str = RANKING) -> Recorded:
    await client.post(path, content=content, headers={"content-type": "application/json"})
    return standin.records.all()[-1]


async def test_a_request_is_kept_as_it_came(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    body = json.dumps(BODY, indent=1) + "  Straße \U0001f600"
    record = await sent(standin, client, body.encode(), f"{RANKING}?a=%20b")
    assert (record.method, record.target, record.http_version) == ("POST", f"{RANKING}?a=%20b", "1.1")
    assert (record.body, record.body_bytes) == (body, len(body.encode()))
    assert [name for name, _ in record.headers][-2:] == ["content-type", "content-length"]


async def test_its_text_is_what_went_over_the_wire(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    record = await sent(standin, client, b'{"passages": []}')
    lines = repr(record).splitlines()
    assert lines[0] == "POST /v1/ranking HTTP/1.1"
    assert "host: standin" in lines
    assert lines[-2:] == ["", '{"passages": []}']


async def test_the_answers_status_and_time_are_kept(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=503")
    record = await sent(standin, client, b"{}")
    assert record.status == 503
    assert record.milliseconds is not None
    assert record.milliseconds > 0


async def test_the_body_is_kept_also_where_a_fault_answers(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=503")
    assert (await sent(standin, client, b"what was sent")).body == "what was sent"


async def test_a_request_that_was_reset_has_no_status(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("reset=before")
    with pytest.raises(ConnectionResetError):
        await client.post(RANKING, json=BODY)
    (record,) = standin.records.all()
    assert record.status is None
    assert record.milliseconds


async def test_bytes_that_are_no_text_are_shown_as_such(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    assert (await sent(standin, client, b'"\xff"')).body == '"\\xff"'


@pytest.mark.parametrize("character", ["x", "ß", "\U0001f600"])
async def test_a_long_body_is_cut_and_its_length_told(
    standin: TinyStandIn, client: httpx.AsyncClient, character: str
) -> None:
    text = "x" + character * MOST_BODY_BYTES
    record = await sent(standin, client, text.encode())
    assert text.startswith(record.body)
    assert MOST_BODY_BYTES - 4 < len(record.body.encode()) <= MOST_BODY_BYTES
    assert record.body_bytes == len(text.encode())
    assert f"{record.body_bytes:,} bytes" in repr(record)


async def test_a_whole_body_is_not_said_to_be_cut(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    assert repr(await sent(standin, client, b"x" * MOST_BODY_BYTES)).endswith("xxx")


@pytest.mark.parametrize("path", ["/v1/health/ready", "/stand-in/requests", "/openapi.json"])
async def test_only_requests_that_ask_for_work_are_kept(
    standin: TinyStandIn, client: httpx.AsyncClient, path: str
) -> None:
    await client.get(path)
    assert standin.records.all() == []


async def test_asking_for_a_promised_answer_is_kept_too(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    await client.get("/v2/nvcf/pexec/status/some-id")
    assert [record.status for record in standin.records.all()] == [404]


async def test_the_last_hundred_are_kept(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=204")
    for _ in range(MOST_REQUESTS + 2):
        await client.post(RANKING)
    assert [record.number for record in standin.records.all()] == list(range(3, MOST_REQUESTS + 3))


async def test_they_can_be_forgotten(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    await client.post(RANKING, json=BODY)
    standin.records.clear()
    assert standin.records.all() == []


# --- keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"x {KEY}, y", "x nvapi-…, y"),
        (KEY.upper(), "NVAPI-…"),
        (KEY.replace("-", "%2D"), "nvapi%2D…"),
        (KEY.replace("-", "\\u002d"), "nvapi\\u002d…"),
        (KEY.replace("n", "\\u006e"), "\\u006evapi-…"),
        (KEY.replace("a", "\\u0041"), "nv\\u0041pi-…"),
        (KEY.replace("a", "%61"), "nv%61pi-…"),
        ("Bearer abcdefghijklmnopqrst", "Bearer …"),
        ("bearer sk-12345678", "bearer …"),
        ("bearer%20sk-12345678", "bearer%20…"),
        ("the bearer of bad news", "the bearer of bad news"),
        ("bearer responsibilities", "bearer responsibilities"),
        ("a forbearer 12345678901", "a forbearer 12345678901"),
    ],
)
def test_what_looks_like_a_key_is_replaced_and_prose_is_not(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Authorization", "Bearer short", "Bearer …"),
        ("Authorization", "Basic dXNlcjpwYXNz", "Basic …"),
        ("Authorization", "bare", "…"),
        ("Authorization", "s3cr3tkey extra", "…"),
        ("Authorization", "digest username=me", "digest …"),
        ("X-Api-Key", "mysecret part2", "…"),
        ("X-Api-Key", "Basic part2", "…"),
        ("Proxy-Authorization", "Basic dXNlcjpwYXNz", "Basic …"),
        ("X-Api-Key", "whatever", "…"),
        ("Cookie", "session=1; other=2", "…"),
        ("User-Agent", f"me/1 ({KEY})", "me/1 (nvapi-…)"),
        ("Accept", "application/json", "application/json"),
    ],
)
async def test_headers_with_credentials_keep_their_scheme_alone(
    standin: TinyStandIn, client: httpx.AsyncClient, name: str, value: str, expected: str
) -> None:
    await client.post(RANKING, headers={name: value})
    assert dict(standin.records.all()[0].headers)[name.lower()] == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("api_key=sk-abc123", "api_key=…"),
        ("a=1&access_token=x&b=2", "a=1&access_token=…&b=2"),
        ("api%5Fk%65y=sk-abc", "api%5Fk%65y=…"),
        ("top=3&model=a", "top=3&model=a"),
    ],
)
async def test_parameters_whose_name_is_that_of_a_secret_are_blank(
    standin: TinyStandIn, client: httpx.AsyncClient, query: str, expected: str
) -> None:
    assert (await sent(standin, client, b"{}", f"{RANKING}?{query}")).target == f"{RANKING}?{expected}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"api_key": "sk-abc123", "a": "b"}', '{"api_key": "…", "a": "b"}'),
        ('{"Authorization":"x \\"y\\" z"}', '{"Authorization":"…"}'),
        ('{"password": "not to its end', '{"password": "…'),
        ('{"max_tokens": 3, "text": "the key: \\"a\\""}', '{"max_tokens": 3, "text": "the key: \\"a\\""}'),
    ],
)
async def test_members_whose_name_is_that_of_a_secret_are_blank(
    standin: TinyStandIn, client: httpx.AsyncClient, body: str, expected: str
) -> None:
    assert (await sent(standin, client, body.encode())).body == expected


def reachable(thing: object) -> set[str]:
    """Return all text that an object holds on to, however deep."""
    seen: dict[int, object] = {}
    waiting = [thing]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen and not isinstance(thing, type):
            seen[id(thing)] = thing
            waiting += gc.get_referents(thing)
    texts = {held for held in seen.values() if isinstance(held, str)}
    return texts | {bytes(held).decode("latin-1") for held in seen.values() if isinstance(held, bytes | bytearray)}


async def test_a_key_is_in_no_memory_once_its_request_is_over(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {KEY}", "x-other": KEY}
    await client.post(f"{RANKING}?q={KEY}&key={KEY}", json=BODY | {"text": KEY, "key": KEY}, headers=headers)
    (record,) = standin.records.all()
    assert "nvapi-…" in record.body
    assert "nvapi-…" in record.target
    assert KEY not in repr(record)
    held = reachable(standin.records)
    assert record.body in held
    assert not [text for text in held if KEY in text]


# --- on the way


async def test_a_stream_passes_piece_by_piece(standin: TinyStandIn) -> None:
    pieces: list[bytes] = []
    release = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"data: first\n\n"
        await release.wait()
        yield b"data: second\n\n"

    async def send(message: Message) -> None:
        if body := message.get("body"):
            pieces.append(body)
            release.set()  # were the first piece held back, the second would never come

    async def receive() -> Message:
        return await requests.get()

    standin.chunks = chunks()
    requests: asyncio.Queue[Message] = asyncio.Queue()
    requests.put_nowait({"type": "http.request", "body": b"{}"})
    async with asyncio.timeout(5):
        await standin.app(scope_of("/v1/chat/completions"), receive, send)
    assert pieces == [b"data: first\n\n", b"data: second\n\n"]


async def test_a_request_on_its_way_is_shown_without_its_key(standin: TinyStandIn) -> None:
    records, shown = Records(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        shown.extend(records.all())

    async def receive() -> Message:
        return {"type": "http.request", "body": KEY.encode()}

    async def send(_: Message) -> None: ...

    await Recorder(app, records)(scope_of(RANKING), receive, send)
    assert [(record.body, record.status, record.milliseconds) for record in shown] == [("nvapi-…", None, None)]
    assert [record.number for record in records.all()] == [1]


async def test_the_record_is_there_before_the_client_has_the_last_byte(standin: TinyStandIn) -> None:
    records, finished = Records(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b"2"})

    async def send(_: Message) -> None:
        finished.append(records.all()[0].milliseconds is not None)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await Recorder(app, records)(scope_of(RANKING), receive, send)
    assert finished == [False, False, True]


def scope_of(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "server": ("standin", 80),
        "client": ("127.0.0.1", 1),
    }


def test_a_real_server_gives_the_headers_in_order(standin: TinyStandIn) -> None:
    headers = {"X-First": "1", "Authorization": f"Bearer {KEY}", "X-Last": "2"}
    with standin.serving() as url, httpx.Client(trust_env=False) as client:
        client.post(f"{url}{RANKING}", json=BODY, headers=headers)
    (record,) = standin.records.all()
    names = [name for name, _ in record.headers]
    assert names[0] == "host"
    assert [name for name in names if name in {"x-first", "authorization", "x-last"}] == [
        name.lower() for name in headers
    ]
    assert record.body == httpx.Request("POST", url, json=BODY).content.decode()
