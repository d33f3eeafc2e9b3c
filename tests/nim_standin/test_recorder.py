"""The recorder: what a client sent, word for word except for its keys, and without delaying anything."""

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
    MAX_RECORDED_BYTES,
    MAX_REQUESTS,
    RecordedRequest,
    Recorder,
    RequestLog,
    redact_keys,
)

RANKING = "/v1/ranking"
KEY = "nvapi-Zq8_secret-0123456789"


async def send(standin: TinyStandIn, client: httpx.AsyncClient, content: bytes, path: str = RANKING) -> RecordedRequest:
    await client.post(path, content=content, headers={"content-type": "application/json"})
    return standin.log.all()[-1]


async def test_a_request_is_kept_as_it_arrived(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    body = json.dumps(BODY, indent=1) + "  Straße \U0001f600"
    record = await send(standin, client, body.encode(), f"{RANKING}?a=%20b")
    assert (record.method, record.target, record.http_version) == ("POST", f"{RANKING}?a=%20b", "1.1")
    assert (record.body, record.body_bytes) == (body, len(body.encode()))
    assert [name for name, _ in record.headers][-2:] == ["content-type", "content-length"]


async def test_its_text_is_what_went_over_the_wire(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    lines = repr(await send(standin, client, b'{"passages": []}')).splitlines()
    assert lines[0] == "POST /v1/ranking HTTP/1.1"
    assert "host: standin" in lines
    assert lines[-2:] == ["", '{"passages": []}']


async def test_body_status_and_time_are_kept_where_a_fault_answers(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("status=503")
    record = await send(standin, client, b"what was sent")
    assert (record.status, record.body) == (503, "what was sent")
    assert record.milliseconds


async def test_a_request_that_was_reset_has_no_status(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("reset=before")
    with pytest.raises(ConnectionResetError):
        await client.post(RANKING, json=BODY)
    (record,) = standin.log.all()
    assert record.status is None
    assert record.milliseconds


async def test_bytes_that_are_no_text_are_shown_as_such(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    assert (await send(standin, client, b'"\xff"')).body == '"\\xff"'


@pytest.mark.parametrize("character", ["x", "ß", "\U0001f600"])
async def test_of_a_long_body_the_beginning_and_the_length_are_kept(
    standin: TinyStandIn, client: httpx.AsyncClient, character: str
) -> None:
    text = "x" + character * MAX_RECORDED_BYTES
    record = await send(standin, client, text.encode())
    assert text.startswith(record.body)
    assert MAX_RECORDED_BYTES - 4 < len(record.body.encode()) <= MAX_RECORDED_BYTES
    assert record.body_bytes == len(text.encode())
    assert f"{record.body_bytes:,} bytes" in repr(record)
    assert repr(await send(standin, client, b"x" * MAX_RECORDED_BYTES)).endswith("xxx")


async def test_only_inference_and_polling_are_kept(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    for path in ("/v1/health/ready", "/stand-in/requests", "/openapi.json", "/v2/nvcf/pexec/status/some-id"):
        await client.get(path)
    assert [(record.target, record.status) for record in standin.log.all()] == [("/v2/nvcf/pexec/status/some-id", 404)]


async def test_the_last_hundred_are_kept_until_cleared(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=204")
    for _ in range(MAX_REQUESTS + 2):
        await client.post(RANKING)
    assert [record.number for record in standin.log.all()] == list(range(3, MAX_REQUESTS + 3))
    standin.log.clear()
    assert standin.log.all() == []


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
    assert redact_keys(text) == expected


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
    assert dict(standin.log.all()[0].headers)[name.lower()] == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("api_key=sk-abc123", "api_key=…"),
        ("a=1&access_token=x&b=2", "a=1&access_token=…&b=2"),
        ("api%5Fk%65y=sk-abc", "api%5Fk%65y=…"),
        ("top=3&model=a", "top=3&model=a"),
    ],
)
async def test_parameters_with_the_name_of_a_secret_are_redacted(
    standin: TinyStandIn, client: httpx.AsyncClient, query: str, expected: str
) -> None:
    assert (await send(standin, client, b"{}", f"{RANKING}?{query}")).target == f"{RANKING}?{expected}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"api_key": "sk-abc123", "a": "b"}', '{"api_key": "…", "a": "b"}'),
        ('{"Authorization":"x \\"y\\" z"}', '{"Authorization":"…"}'),
        ('{"password": "not to its end', '{"password": "…'),
        ('{"max_tokens": 3, "text": "the key: \\"a\\""}', '{"max_tokens": 3, "text": "the key: \\"a\\""}'),
    ],
)
async def test_members_with_the_name_of_a_secret_are_redacted(
    standin: TinyStandIn, client: httpx.AsyncClient, body: str, expected: str
) -> None:
    assert (await send(standin, client, body.encode())).body == expected


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
    (record,) = standin.log.all()
    assert "nvapi-…" in record.body
    assert "nvapi-…" in record.target
    assert KEY not in repr(record)
    held = reachable(standin.log)
    assert record.body in held
    assert not [text for text in held if KEY in text]


# --- in progress


def scope_of(path: str) -> dict[str, Any]:
    common = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": ""}
    return common | {"path": path, "query_string": b"", "headers": [], "server": ("standin", 80)}


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
            release.set()  # if the first piece were held back, the second would never come

    standin.chunks = chunks()
    requests: asyncio.Queue[Message] = asyncio.Queue()
    requests.put_nowait({"type": "http.request", "body": b"{}"})
    async with asyncio.timeout(60):
        await standin.app(scope_of("/v1/chat/completions"), requests.get, send)
    assert pieces == [b"data: first\n\n", b"data: second\n\n"]


async def test_a_request_in_progress_is_shown_without_its_key() -> None:
    log, shown = RequestLog(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        shown.extend(log.all())

    async def receive() -> Message:
        return {"type": "http.request", "body": KEY.encode()}

    await Recorder(app, log)(scope_of(RANKING), receive, None)
    assert [(record.body, record.status, record.milliseconds) for record in shown] == [("nvapi-…", None, None)]
    assert [record.number for record in log.all()] == [1]


async def test_the_record_is_complete_before_the_client_has_the_last_byte() -> None:
    log, finished = RequestLog(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b"2"})

    async def send(_: Message) -> None:
        finished.append(log.all()[0].milliseconds is not None)

    await Recorder(app, log)(scope_of(RANKING), None, send)
    assert finished == [False, False, True]


def test_a_real_server_gives_the_headers_in_order(standin: TinyStandIn) -> None:
    headers = {"X-First": "1", "Authorization": f"Bearer {KEY}", "X-Last": "2"}
    with standin.serving() as url, httpx.Client(trust_env=False) as client:
        client.post(f"{url}{RANKING}", json=BODY, headers=headers)
    (record,) = standin.log.all()
    names = [name for name, _ in record.headers]
    assert names[0] == "host"
    assert [name for name in names if name.title() in headers] == [name.lower() for name in headers]
    assert record.body == httpx.Request("POST", url, json=BODY).content.decode()
