"""Injected faults: their text, the plan that draws them, and what a client sees."""

import asyncio
import json
import logging
import math
import random
import socket
import statistics
from collections import Counter
from contextlib import suppress
from typing import Any, get_args

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect
from tiny_standin import BODY, RANKINGS, TinyStandIn
from uvicorn.server import ServerState

from nvrerank_helpers.nim_standin.asgi import sockets
from nvrerank_helpers.nim_standin.asgi.responses import BufferedResponse
from nvrerank_helpers.nim_standin.asgi.sockets import ResettableProtocol, reset_connection
from nvrerank_helpers.nim_standin.faults import injector
from nvrerank_helpers.nim_standin.faults.corruption import corrupt
from nvrerank_helpers.nim_standin.faults.deferred import PendingResponses
from nvrerank_helpers.nim_standin.faults.injector import HEADER, FaultInjector
from nvrerank_helpers.nim_standin.faults.plan import FaultPlan
from nvrerank_helpers.nim_standin.faults.specs import DelayFault, Fault, FaultError, RankingCorruption, parse_fault

RANKING = "/v1/ranking"
SCOPE = {"type": "http", "method": "POST", "path": RANKING, "headers": []}
RESET = r"reset by peer|forcibly closed"  # on POSIX and on Windows


def plan_of(*texts: str, seed: int = 0) -> FaultPlan:
    return FaultPlan(map(parse_fault, texts), seed)


def draw(plan: FaultPlan, requests: int) -> list[str]:
    return [str(plan.draw(RANKING).fault) for _ in range(requests)]


# --- the text of a fault


@pytest.mark.parametrize(
    "text",
    [
        "status=503 retry-after=2 share=0.05",
        "status=429 retry-after='Wed, 21 Oct 2026 07:28:00 GMT' times=1",
        "delay=exponential seconds=0.05",
        "reset=middle share=0.01",
        "answer=out_of_range",
        "later=2",
    ],
)
def test_a_fault_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_fault(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "none of the words"),
        ("stauts=503", r"give one of status=503.*delay=.*reset=before.*answer=unsorted.*later=2"),
        ("status", "'status' is not of the form name=value"),
        ("status=503 reset=before", "both status= and reset="),
        ("status=503 status=504", "status= twice"),
        ("status=503 retry=2", "no retry=; it takes share=, times=, status=, retry-after="),
        ("status=503 retry-after=' 2'", "retry-after= 2 is not allowed: .*without a blank at either end"),
        ("status='503", "No closing quotation"),
        ("status=99", "status=99 is not allowed: .*greater than or equal to 200"),
        ("status=503 share=2", "share=2 is not allowed: .*less than or equal to 1"),
        ("status=503 share=-0.1", "share=-0.1 is not allowed: .*greater than or equal to 0"),
        ("status=503 share=nan", "share=nan is not allowed: .*finite"),
        ("status=503 times=0", "times=0 is not allowed"),
        ("delay=fixed", "seconds= is missing"),
        (
            "delay=poisson seconds=1",
            "delay=poisson is not allowed: .*'fixed', 'exponential' or 'queue'",
        ),
        ("answer=wrong", "answer=wrong is not allowed: .*'unsorted'.*'broken'"),
    ],
)
def test_a_fault_that_cannot_be_understood_is_refused_with_the_word_and_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(FaultError, match=words):
        parse_fault(text)


@pytest.mark.parametrize("text", ["status=503 retry-after=2", "delay=fixed seconds=1", "answer=nan", "later=2"])
def test_the_json_form_has_the_words_of_the_text(text: str) -> None:
    fault = parse_fault(text)
    form: TypeAdapter[Any] = TypeAdapter(Fault)
    assert form.validate_json(form.dump_json(fault)) == fault
    assert form.dump_python(fault, exclude_unset=True).keys() == {
        word.partition("=")[0].replace("-", "_") for word in text.split()
    }


@given(st.text())
def test_any_text_is_a_fault_or_a_fault_error(text: str) -> None:
    with suppress(FaultError):
        assert parse_fault(text)


# --- the plan


def test_the_same_seed_gives_the_same_faults() -> None:
    texts = ("status=503 share=0.3", "reset=before share=0.3", "delay=exponential seconds=1")
    plans = [plan_of(*texts, seed=7), plan_of(*texts, seed=7), plan_of(*texts, seed=8)]
    plans[1].draw(RANKING)
    plans[1].set(map(parse_fault, texts), seed=7)  # starts again
    first, again, other = [[(one.delay, one.fault) for one in (p.draw(RANKING) for _ in range(50))] for p in plans]
    assert first == again
    assert first != other


def test_each_fault_has_its_share_of_all_requests() -> None:
    counts = Counter(draw(plan_of("status=503 share=0.2", "reset=middle share=0.05", "answer=nan share=0.1"), 20_000))
    assert counts["status=503 share=0.2"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts["reset=middle share=0.05"] / 20_000 == pytest.approx(0.05, abs=0.005)
    assert counts["answer=nan share=0.1"] / 20_000 == pytest.approx(0.1, abs=0.008)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (["status=503 share=0"], "None"),
        (["status=503"], "status=503"),
        (["status=503 share=0.1"] * 10, "status=503 share=0.1"),
    ],
)
def test_a_share_of_nothing_never_happens_and_a_share_of_all_always(faults: list[str], expected: str) -> None:
    assert set(draw(plan_of(*faults), 1000)) == {expected}


def test_shares_of_more_than_all_requests_are_refused_and_change_nothing() -> None:
    plan = plan_of("later=1")
    with pytest.raises(FaultError, match=r"add up to 1\.1"):
        plan.set([parse_fault("status=503 share=0.6"), parse_fault("reset=before share=0.5")])
    assert draw(plan, 1) == ["later=1"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(FaultError, match=f"seed {seed} is not allowed: .* from 0 to 4294967295"):
        plan_of("later=1", seed=seed)


def test_faults_with_times_follow_one_another_and_then_the_call_works() -> None:
    assert draw(plan_of("status=503 times=2", "status=429 times=1"), 5) == [
        "status=503 times=2",
        "status=503 times=2",
        "status=429 times=1",
        "None",
        "None",
    ]


def test_delays_add_up_beside_another_fault_and_all_are_counted() -> None:
    plan = plan_of("delay=fixed seconds=1", "status=503 times=1", "delay=fixed seconds=0.5")
    draws = [plan.draw(RANKING) for _ in range(2)]
    assert [(one.delay, str(one.fault)) for one in draws] == [(1.5, "status=503 times=1"), (1.5, "None")]
    assert (plan.state.requests, plan.state.injected) == (2, [2, 1, 2])


def test_in_a_queue_requests_wait_for_those_before_them_until_all_are_done() -> None:
    times = iter([10, 10, 11, 30, 30])
    plan = FaultPlan([parse_fault("delay=queue seconds=2")], clock=lambda: next(times))
    assert [plan.draw(RANKING).delay for _ in range(4)] == [2, 4, 5, 2]
    plan.set([parse_fault("delay=queue seconds=2")])
    assert plan.draw(RANKING).delay == 2


@pytest.mark.parametrize(("distribution", "deviation", "median"), [("fixed", 0, 2), ("exponential", 2, 1.386)])
def test_a_delay_has_the_distribution_that_was_asked_for(distribution: str, deviation: float, median: float) -> None:
    fault, rng = parse_fault(f"delay={distribution} seconds=2"), random.Random(0)
    assert isinstance(fault, DelayFault)
    seconds = [fault.draw_seconds(rng) for _ in range(50_000)]
    assert statistics.fmean(seconds) == pytest.approx(2, rel=0.02)
    assert statistics.stdev(seconds) == pytest.approx(deviation, rel=0.1, abs=1e-9)
    assert statistics.median(seconds) == pytest.approx(median, rel=0.02)


def test_a_corrupted_ranking_is_for_rankings_and_a_page_for_every_route() -> None:
    plan = plan_of("answer=unsorted times=1")
    assert plan.draw("/v1/chat/completions").fault is None
    assert plan.draw("/v1/retrieval/nvidia/some-model/reranking").fault
    assert plan_of("answer=html").draw("/v1/chat/completions").fault


# --- corrupted responses


def corrupt_rankings(corruption: Any, rankings: list[dict[str, Any]], seed: int = 0) -> Any:
    body = json.dumps({"rankings": rankings, "usage": {"total_tokens": 3}}).encode()
    content = json.loads(corrupt(BufferedResponse(200, [], body), corruption, random.Random(seed)).body)
    assert content["usage"] == {"total_tokens": 3}
    return content.get("rankings")


@pytest.mark.parametrize("seed", range(5))
def test_each_corruption_breaks_the_rule_it_is_named_for(seed: int) -> None:
    wrong = {name: corrupt_rankings(name, RANKINGS, seed) for name in get_args(RankingCorruption)}
    indices = {name: sorted(entry["index"] for entry in entries) for name, entries in wrong.items() if entries}
    assert [entry["logit"] for entry in wrong["unsorted"]] == [1.0, 2.0, 3.0]
    assert len(set(indices["missing"])) == 2
    assert (len(indices["duplicate"]), len(set(indices["duplicate"]))) == (3, 2)
    assert indices["out_of_range"][-1] == 3
    assert indices["negative"][0] == -1
    assert sum(math.isnan(entry["logit"]) for entry in wrong["nan"]) == 1
    assert wrong["strings"][0] == {"index": "1", "logit": "3.0"}
    assert wrong["no_rankings"] is None


def test_a_single_ranking_is_duplicated_by_listing_it_twice() -> None:
    assert [entry["index"] for entry in corrupt_rankings("duplicate", RANKINGS[:1])] == [1, 1]


@pytest.mark.parametrize("body", [b'{"data": []}', b"[1]", b"data: {}\n\n", b'{"rankings": []}'])
def test_a_response_without_rankings_stays_unchanged(body: bytes) -> None:
    response = BufferedResponse(200, [], body)
    assert corrupt(response, "unsorted", random.Random(0)) is response


# --- what a client sees


async def test_without_faults_the_answer_is_untouched(client: httpx.AsyncClient) -> None:
    answer = await client.post(RANKING, json=BODY)
    assert answer.json() == {"rankings": RANKINGS}
    assert HEADER not in answer.headers


async def test_a_status_has_its_retry_after_and_the_shape_of_a_nim(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("status=503 retry-after=2")
    answer = await client.post(RANKING, json=BODY)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["object"]) == (503, "2", "error")
    assert answer.headers[HEADER] == "status=503 retry-after=2"


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the seconds that the injector would have slept."""
    seconds_each: list[float] = []

    async def sleep(seconds: float) -> None:
        seconds_each.append(seconds)

    monkeypatch.setattr(injector.asyncio, "sleep", sleep)
    return seconds_each


@pytest.mark.parametrize(
    ("faults", "expected"), [(["delay=fixed seconds=3 times=1"], [3]), (["delay=fixed seconds=600 times=1"] * 2, [600])]
)
async def test_a_delay_comes_before_the_response_and_has_a_limit(
    standin: TinyStandIn, client: httpx.AsyncClient, sleeps: list[float], faults: list[str], expected: list[float]
) -> None:
    standin.inject(*faults)
    assert [(await client.post(RANKING, json=BODY)).status_code for _ in range(2)] == [200, 200]
    assert sleeps == expected


async def test_a_delay_ends_when_the_client_disconnects(standin: TinyStandIn) -> None:
    standin.inject("delay=fixed seconds=600")
    messages = iter([{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    with pytest.raises(ClientDisconnect):
        await FaultInjector(standin.app, standin.plan, standin.pending)(SCOPE, receive, fail)


async def fail(message: Any) -> None:
    raise AssertionError(f"nobody is there for {message}")


async def test_a_body_that_is_too_long_is_not_kept_for_a_delay(
    standin: TinyStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injector, "MAX_BODY_BYTES", 10)
    standin.inject("delay=fixed seconds=600")
    sent, seen = [b"12345678", b"90123", b"4"], []

    async def receive() -> Any:
        return {"type": "http.request", "body": sent.pop(0), "more_body": bool(sent)}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(len(sent))
        seen.extend([(await receive())["body"] for _ in range(3)])

    await FaultInjector(app, standin.plan, standin.pending)(SCOPE, receive, fail)
    assert seen == [1, b"12345678", b"90123", b"4"]


async def test_a_corrupted_response_declares_its_length(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("answer=missing")
    answer = await client.post(RANKING, json=BODY)
    assert len(answer.json()["rankings"]) == 2
    assert answer.headers.get_list("content-length") == [str(len(answer.content))]


async def test_a_page_and_broken_json_have_status_200(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    page, broken = [
        await client.post(RANKING, json=BODY, headers={HEADER: f"answer={how}"}) for how in ("html", "broken")
    ]
    assert (page.status_code, page.headers["content-type"], "<html>" in page.text) == (
        200,
        "text/html; charset=utf-8",
        True,
    )
    assert (broken.status_code, broken.text.startswith('{"rankings":')) == (200, True)
    with pytest.raises(json.JSONDecodeError):
        broken.json()


@pytest.mark.parametrize("fault", ["answer=html", "answer=unsorted", "later=0"])
async def test_a_refusal_stays_unchanged(standin: TinyStandIn, client: httpx.AsyncClient, fault: str) -> None:
    standin.inject(fault)
    answer = await client.post(RANKING, json=BODY | {"passages": []})
    assert (answer.status_code, answer.json()) == (422, {"detail": "no passages"})
    assert HEADER not in answer.headers


async def test_a_response_that_cannot_be_corrupted_is_not_marked(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("answer=unsorted")
    answer = await client.post(RANKING, json=BODY | {"passages": [{"text": "1"}]})
    assert HEADER not in answer.headers


async def test_faults_touch_rankings_and_not_health_and_controls(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("status=503")
    assert (await client.post("/v1/retrieval/nvidia/some-model/reranking", json=BODY)).status_code == 503
    for path in ("/v1/health/ready", "/stand-in/faults", "/stand-in/requests", "/openapi.json"):
        assert (await client.get(path, headers={HEADER: "status=500"})).status_code == 200


async def test_a_header_decides_for_its_own_request(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=503")
    statuses = [
        (await client.post(RANKING, json=BODY, headers=own)).status_code for own in ({HEADER: "status=418"}, {})
    ]
    assert (statuses, standin.plan.state.injected) == ([418, 503], [1])


@pytest.mark.parametrize(("text", "words"), [("status=nan", "status=nan is not"), ("status=503 share=1", "plan")])
async def test_a_header_that_cannot_be_understood_is_a_400(client: httpx.AsyncClient, text: str, words: str) -> None:
    answer = await client.post(RANKING, json=BODY, headers={HEADER: text})
    assert answer.status_code == 400
    assert words in answer.json()["message"]


async def test_a_reset_without_a_socket_is_an_error_for_the_caller(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("reset=before")
    with pytest.raises(ConnectionResetError, match="has no socket"):
        await client.post(RANKING, json=BODY)


# --- deferred responses


async def test_a_response_is_deferred_and_fetched_once(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("later=0")
    deferred = await client.post(RANKING, json=BODY)
    assert (deferred.status_code, deferred.content) == (202, b"")
    address = f"/v2/nvcf/pexec/status/{deferred.headers['nvcf-reqid']}"
    answer = await client.get(address)
    assert (answer.status_code, answer.json()) == (200, {"rankings": RANKINGS})
    assert (await client.get(address)).status_code == 404


async def test_the_202_is_repeated_until_the_response_is_ready(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("later=600")
    request_id = (await client.post(RANKING, json=BODY)).headers["nvcf-reqid"]
    again = await client.get(f"/v2/nvcf/pexec/status/{request_id}")
    assert (again.status_code, again.headers["nvcf-reqid"], again.content) == (202, request_id, b"")


@pytest.mark.parametrize(("size", "most"), [(0, 1024), (2**20, 60)], ids=["many", "large"])
def test_responses_that_nobody_fetches_are_dropped(size: int, most: int) -> None:
    pending, body = PendingResponses(), bytes(size)
    deferred = [pending.keep(BufferedResponse(200, [], body), 0) for _ in range(most + 1)]
    first, second = [dict(one.headers)[b"nvcf-reqid"].decode() for one in deferred[:2]]
    assert pending.fetch(first) is None
    assert pending.fetch(second)


# --- on a real socket


def post(url: str, path: str = RANKING, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=url, trust_env=False) as client:
        return client.post(path, json=BODY, headers=headers)


def test_a_reset_before_the_answer_is_a_reset(standin: TinyStandIn, caplog: pytest.LogCaptureFixture) -> None:
    standin.inject("reset=before times=1")
    with standin.serving() as url, caplog.at_level(logging.WARNING):
        with pytest.raises(httpx.ReadError, match=RESET):
            post(url)
        assert post(url).status_code == 200
    assert not caplog.records


def test_a_reset_in_the_middle_comes_after_half_of_the_body(
    standin: TinyStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    standin.inject("reset=middle times=1")
    received: list[bytes] = []
    with (
        standin.serving() as url,
        caplog.at_level(logging.WARNING),
        httpx.Client(trust_env=False) as client,
        client.stream("POST", f"{url}{RANKING}", json=BODY) as answer,
    ):
        assert (answer.status_code, answer.headers[HEADER]) == (200, "reset=middle times=1")
        with pytest.raises(httpx.ReadError, match=RESET):
            received.extend(answer.iter_raw())
    whole = json.dumps({"rankings": RANKINGS}, separators=(",", ":")).encode()
    assert b"".join(received) == whole[: len(whole) // 2]
    assert not caplog.records


def test_a_connection_outlives_a_status(standin: TinyStandIn) -> None:
    standin.inject("status=503 times=2")
    with standin.serving() as url, httpx.Client(base_url=url, trust_env=False) as client:
        statuses, sources = [], set()
        for _ in range(3):
            with client.stream("POST", RANKING, json=BODY | {"padding": "x" * 300_000}) as answer:
                answer.read()
                statuses.append(answer.status_code)
                sources.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert (statuses, len(sources)) == ([503, 503, 200], 1)


def test_a_real_server_can_send_any_status(standin: TinyStandIn) -> None:
    with standin.serving() as url:
        for status in (204, 205, 304, 418, 429, 499, 599):
            fault = f"status={status} retry-after='Wed, 21 Oct 2026 07:28:00 GMT'"
            assert post(url, **{HEADER: fault}).status_code == status


@pytest.mark.parametrize("sent", [b"", b"POST /v1/ranking HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_whole_headers_is_closed(
    standin: TinyStandIn, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(sockets, "HEADERS_SECONDS", 0.01)
    with standin.serving() as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 60) as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""


class Transport(asyncio.Transport):
    """A connection that goes nowhere."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def write(self, data: Any) -> None: ...


@pytest.fixture
async def protocol(standin: TinyStandIn, monkeypatch: pytest.MonkeyPatch) -> ResettableProtocol:
    config = uvicorn.Config(standin.app, http=ResettableProtocol, log_config=None)
    protocol = ResettableProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    protocol.connection_made(Transport())
    return protocol


async def test_complete_headers_stop_the_timer(protocol: ResettableProtocol) -> None:
    assert protocol._headers_timer
    protocol.data_received(b"POST /v1/ranking HTTP/1.1\r\nHost: x\r\n")
    assert protocol._headers_timer
    protocol.data_received(b"Content-Length: 9\r\n\r\n{")
    assert protocol._headers_timer is None
    protocol.connection_lost(None)


async def test_a_reset_of_a_connection_that_is_gone_does_nothing(protocol: ResettableProtocol) -> None:
    protocol.transport.close()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await reset_connection({"state": protocol.app_state}, receive)
    protocol.connection_lost(None)
