"""Faults on purpose: their text, the plan that draws them, and what a client gets to see."""

import asyncio
import contextlib
import json
import logging
import math
import random
import socket
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tiny_standin import BODY, RANKINGS, TinyStandIn
from uvicorn.server import ServerState

from nvrerank_helpers.nim_standin.asgi import sockets
from nvrerank_helpers.nim_standin.asgi.answer import Answer
from nvrerank_helpers.nim_standin.asgi.sockets import ResettableProtocol, reset_connection
from nvrerank_helpers.nim_standin.asgi.waiting import ClientLeftError
from nvrerank_helpers.nim_standin.faults import injector
from nvrerank_helpers.nim_standin.faults.corruption import spoilt
from nvrerank_helpers.nim_standin.faults.deferred import LaterAnswers
from nvrerank_helpers.nim_standin.faults.injector import HEADER, FaultInjector
from nvrerank_helpers.nim_standin.faults.plan import Plan
from nvrerank_helpers.nim_standin.faults.specs import DelayFault, Fault, FaultError, parse_fault

RANKING = "/v1/ranking"
RESET = r"reset by peer|forcibly closed"  # as POSIX and as Windows say it


@pytest.fixture
def standin() -> TinyStandIn:
    return TinyStandIn()


@pytest.fixture
async def client(standin: TinyStandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with standin.client() as client:
        yield client


def plan_of(*texts: str, seed: int = 0) -> Plan:
    return Plan(map(parse_fault, texts), seed)


def drawn(plan: Plan, requests: int) -> list[str]:
    return [str(plan.draw(RANKING).fault) for _ in range(requests)]


# --- the text of a fault


@pytest.mark.parametrize(
    "text",
    [
        "status=503 retry-after=2 share=0.05",
        "status=429 retry-after='Wed, 21 Oct 2026 07:28:00 GMT' times=1",
        "delay=lognormal seconds=0.05",
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
        ("status", "'status' is no name=value"),
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
            "delay=poisson is not allowed: .*'fixed', 'uniform', 'exponential', 'lognormal' or 'queue'",
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
    with contextlib.suppress(FaultError):
        assert parse_fault(text)


# --- the plan


def test_the_same_seed_gives_the_same_faults() -> None:
    texts = ("status=503 share=0.3", "reset=before share=0.3", "delay=exponential seconds=1")
    plans = [plan_of(*texts, seed=7), plan_of(*texts, seed=7), plan_of(*texts, seed=8)]
    first, again, other = [[(draw.delay, draw.fault) for draw in (p.draw(RANKING) for _ in range(50))] for p in plans]
    assert first == again
    assert first != other


def test_setting_a_plan_again_begins_anew() -> None:
    plan = plan_of("status=503 share=0.5")
    first = drawn(plan, 20)
    plan.set([parse_fault("status=503 share=0.5")])
    assert drawn(plan, 20) == first


def test_each_fault_has_its_share_of_all_requests() -> None:
    counts = Counter(drawn(plan_of("status=503 share=0.2", "reset=middle share=0.05", "answer=nan share=0.1"), 20_000))
    assert counts["status=503 share=0.2"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts["reset=middle share=0.05"] / 20_000 == pytest.approx(0.05, abs=0.005)
    assert counts["answer=nan share=0.1"] / 20_000 == pytest.approx(0.1, abs=0.008)


@pytest.mark.parametrize(("share", "expected"), [("0", "None"), ("1", "status=503")])
def test_a_share_of_nothing_never_happens_and_a_share_of_all_always(share: str, expected: str) -> None:
    assert set(drawn(plan_of(f"status=503 share={share}"), 1000)) == {expected}


def test_shares_of_more_than_all_requests_are_refused_and_change_nothing() -> None:
    plan = plan_of("later=1")
    with pytest.raises(FaultError, match=r"add up to 1\.1"):
        plan.set([parse_fault("status=503 share=0.6"), parse_fault("reset=before share=0.5")])
    assert drawn(plan, 1) == ["later=1"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(FaultError, match=f"seed {seed} is not allowed: .* from 0 to 4294967295"):
        plan_of("later=1", seed=seed)


def test_ten_tenths_are_all_requests() -> None:
    assert "None" not in drawn(plan_of(*["status=503 share=0.1"] * 10), 1000)


def test_faults_with_times_follow_one_another_and_then_the_call_works() -> None:
    assert drawn(plan_of("status=503 times=2", "status=429 times=1"), 5) == [
        "status=503 times=2",
        "status=503 times=2",
        "status=429 times=1",
        "None",
        "None",
    ]


def test_delays_add_up_and_leave_room_for_another_fault() -> None:
    draw = plan_of("delay=fixed seconds=1", "status=503", "delay=fixed seconds=0.5").draw(RANKING)
    assert (draw.delay, str(draw.fault)) == (1.5, "status=503")


def test_in_a_queue_requests_wait_for_those_before_them_until_all_are_done() -> None:
    times = iter([10, 10, 11, 30])
    plan = Plan([parse_fault("delay=queue seconds=2")], clock=lambda: next(times))
    assert [plan.draw(RANKING).delay for _ in range(4)] == [2, 4, 5, 2]


def test_a_queue_is_empty_after_the_faults_are_set_anew() -> None:
    plan = Plan([parse_fault("delay=queue seconds=2")], clock=lambda: 0)
    drawn(plan, 2)
    plan.set([parse_fault("delay=queue seconds=2")])
    assert plan.draw(RANKING).delay == 2


@pytest.mark.parametrize(
    ("distribution", "deviation", "median"),
    [("fixed", 0, 2), ("uniform", 1.155, 2), ("exponential", 2, 1.386), ("lognormal", 2.622, 1.213)],
)
def test_a_delay_has_the_mean_and_the_shape_that_were_asked_for(
    distribution: str, deviation: float, median: float
) -> None:
    fault, rng = parse_fault(f"delay={distribution} seconds=2"), random.Random(0)
    assert isinstance(fault, DelayFault)
    lengths = [fault.length(rng) for _ in range(50_000)]
    assert statistics.fmean(lengths) == pytest.approx(2, rel=0.02)
    assert statistics.stdev(lengths) == pytest.approx(deviation, rel=0.1, abs=1e-9)
    assert statistics.median(lengths) == pytest.approx(median, rel=0.02)


def test_what_spoils_rankings_passes_over_other_requests() -> None:
    plan = plan_of("answer=unsorted times=1")
    assert plan.draw("/v1/chat/completions").fault is None
    assert plan.draw("/v1/retrieval/nvidia/some-model/reranking").fault


def test_a_page_instead_of_an_answer_is_for_every_route() -> None:
    assert plan_of("answer=html").draw("/v1/chat/completions").fault


def test_the_plan_counts_what_it_injects() -> None:
    plan = plan_of("status=503 times=1", "delay=fixed seconds=0 share=1")
    drawn(plan, 3)
    assert (plan.state.requests, plan.state.injected) == (3, [1, 3])


# --- spoilt answers


def spoilt_rankings(spoil: Any, rankings: list[dict[str, Any]], seed: int = 0) -> Any:
    body = json.dumps({"rankings": rankings, "usage": {"total_tokens": 3}}).encode()
    content = json.loads(spoilt(Answer(200, [], body), spoil, random.Random(seed)).body)
    assert content["usage"] == {"total_tokens": 3}
    return content.get("rankings")


@pytest.mark.parametrize("seed", range(5))
def test_each_spoil_breaks_the_rule_it_is_named_for(seed: int) -> None:
    wrong = {
        spoil: spoilt_rankings(spoil, RANKINGS, seed)
        for spoil in ("unsorted", "missing", "duplicate", "out_of_range", "negative", "nan", "strings", "no_rankings")
    }
    indices = {spoil: sorted(entry["index"] for entry in entries) for spoil, entries in wrong.items() if entries}
    assert [entry["logit"] for entry in wrong["unsorted"]] == [1.0, 2.0, 3.0]
    assert len(set(indices["missing"])) == 2
    assert (len(indices["duplicate"]), len(set(indices["duplicate"]))) == (3, 2)
    assert indices["out_of_range"][-1] == 3
    assert indices["negative"][0] == -1
    assert sum(math.isnan(entry["logit"]) for entry in wrong["nan"]) == 1
    assert wrong["strings"][0] == {"index": "1", "logit": "3.0"}
    assert wrong["no_rankings"] is None


def test_a_single_ranking_is_duplicated_by_ranking_it_twice() -> None:
    assert [entry["index"] for entry in spoilt_rankings("duplicate", RANKINGS[:1])] == [1, 1]


@pytest.mark.parametrize("body", [b'{"data": []}', b"[1]", b"data: {}\n\n", b'{"rankings": []}'])
def test_an_answer_without_rankings_cannot_be_spoilt_like_one(body: bytes) -> None:
    answer = Answer(200, [], body)
    assert spoilt(answer, "unsorted", random.Random(0)) is answer


# --- what a client sees


async def test_without_faults_the_answer_is_untouched(client: httpx.AsyncClient) -> None:
    answer = await client.post(RANKING, json=BODY)
    assert answer.json() == {"rankings": RANKINGS}
    assert HEADER not in answer.headers


async def test_a_status_comes_with_its_retry_after_and_in_the_shape_of_a_nim(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("status=503 retry-after=2")
    answer = await client.post(RANKING, json=BODY)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["object"]) == (503, "2", "error")
    assert answer.headers[HEADER] == "status=503 retry-after=2"


@pytest.mark.parametrize("status", [204, 205, 304, 418, 499, 599])
async def test_any_status_can_be_sent(standin: TinyStandIn, client: httpx.AsyncClient, status: int) -> None:
    standin.inject(f"status={status}")
    assert (await client.post(RANKING, json=BODY)).status_code == status


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the injector would have slept."""
    seconds_each: list[float] = []

    async def sleep(seconds: float) -> None:
        seconds_each.append(seconds)

    monkeypatch.setattr(injector.asyncio, "sleep", sleep)
    return seconds_each


async def test_a_delay_comes_before_the_answer(
    standin: TinyStandIn, client: httpx.AsyncClient, waited: list[float]
) -> None:
    standin.inject("delay=fixed seconds=3 times=1")
    assert [(await client.post(RANKING, json=BODY)).status_code for _ in range(2)] == [200, 200]
    assert waited == [3]


async def test_a_delay_has_an_end(standin: TinyStandIn, client: httpx.AsyncClient, waited: list[float]) -> None:
    standin.inject("delay=fixed seconds=600", "delay=fixed seconds=600")
    assert (await client.post(RANKING, json=BODY)).status_code == 200
    assert waited == [600]


async def test_a_delay_ends_when_the_client_leaves(standin: TinyStandIn) -> None:
    standin.inject("delay=fixed seconds=600")
    messages = iter([{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    scope = {"type": "http", "method": "POST", "path": RANKING, "headers": []}
    with pytest.raises(ClientLeftError):
        await FaultInjector(standin.app, standin.plan, standin.later)(scope, receive, no_answer)


async def no_answer(message: Any) -> None:
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

    scope = {"type": "http", "method": "POST", "path": RANKING, "headers": []}
    await FaultInjector(app, standin.plan, standin.later)(scope, receive, no_answer)
    assert seen == [1, b"12345678", b"90123", b"4"]


async def test_a_spoilt_answer_has_the_length_it_says(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("answer=missing")
    answer = await client.post(RANKING, json=BODY)
    assert len(answer.json()["rankings"]) == 2
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers.get_list("content-length") == [str(len(answer.content))]


async def test_a_page_comes_with_status_200(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("answer=html")
    answer = await client.post(RANKING, json=BODY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<html>" in answer.text


async def test_broken_json_is_cut_off(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("answer=broken")
    answer = await client.post(RANKING, json=BODY)
    assert answer.text.startswith('{"rankings":')
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("fault", ["answer=html", "answer=unsorted", "later=0"])
async def test_a_refusal_is_left_alone(standin: TinyStandIn, client: httpx.AsyncClient, fault: str) -> None:
    standin.inject(fault)
    answer = await client.post(RANKING, json=BODY | {"passages": []})
    assert (answer.status_code, answer.json()) == (422, {"detail": "no passages"})
    assert HEADER not in answer.headers


async def test_an_answer_that_cannot_be_spoilt_is_not_said_to_be(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("answer=unsorted")
    answer = await client.post(RANKING, json=BODY | {"passages": [{"text": "1"}]})
    assert HEADER not in answer.headers


@pytest.mark.parametrize("path", ["/v1/health/ready", "/stand-in/faults", "/stand-in/requests", "/openapi.json"])
async def test_faults_leave_health_and_controls_alone(
    standin: TinyStandIn, client: httpx.AsyncClient, path: str
) -> None:
    standin.inject("status=503")
    assert (await client.get(path, headers={HEADER: "status=500"})).status_code == 200


async def test_the_catalogs_path_meets_faults_too(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=503")
    assert (await client.post("/v1/retrieval/nvidia/some-model/reranking", json=BODY)).status_code == 503


async def test_a_header_decides_for_its_own_request(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("status=503")
    answer = await client.post(RANKING, json=BODY, headers={HEADER: "status=418"})
    assert answer.status_code == 418
    assert (await client.post(RANKING, json=BODY)).status_code == 503
    assert standin.plan.state.injected == [1]


@pytest.mark.parametrize(("text", "words"), [("status=nan", "status=nan is not"), ("status=503 share=1", "plan")])
async def test_a_header_that_cannot_be_understood_is_a_400(client: httpx.AsyncClient, text: str, words: str) -> None:
    answer = await client.post(RANKING, json=BODY, headers={HEADER: text})
    assert answer.status_code == 400
    assert words in answer.json()["message"]


async def test_a_reset_without_a_socket_is_an_error_for_the_caller(
    standin: TinyStandIn, client: httpx.AsyncClient
) -> None:
    standin.inject("reset=before")
    with pytest.raises(ConnectionResetError, match="no socket of its own"):
        await client.post(RANKING, json=BODY)


# --- promised for later


async def test_an_answer_for_later_is_promised_and_fetched(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("later=0")
    promise = await client.post(RANKING, json=BODY)
    assert (promise.status_code, promise.content) == (202, b"")
    address = f"/v2/nvcf/pexec/status/{promise.headers['nvcf-reqid']}"
    answer = await client.get(address)
    assert (answer.status_code, answer.json()) == (200, {"rankings": RANKINGS})
    assert (await client.get(address)).status_code == 404


async def test_the_promise_is_repeated_until_its_time_has_come(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    standin.inject("later=600")
    request_id = (await client.post(RANKING, json=BODY)).headers["nvcf-reqid"]
    again = await client.get(f"/v2/nvcf/pexec/status/{request_id}")
    assert (again.status_code, again.headers["nvcf-reqid"], again.content) == (202, request_id, b"")


@pytest.mark.parametrize(("size", "most"), [(0, 1024), (2**20, 60)], ids=["many", "large"])
def test_answers_that_nobody_fetches_are_forgotten(size: int, most: int) -> None:
    answers, body = LaterAnswers(), bytes(size)
    promises = [answers.keep(Answer(200, [], body), 0) for _ in range(most + 1)]
    first, second = [dict(promise.headers)[b"nvcf-reqid"].decode() for promise in promises[:2]]
    assert answers.fetch(first) is None
    assert answers.fetch(second)


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


@pytest.mark.parametrize("status", [204, 205, 304, 429, 599])
def test_a_real_server_can_send_any_status(standin: TinyStandIn, status: int) -> None:
    with standin.serving() as url:
        assert (
            post(url, **{HEADER: f"status={status} retry-after='Wed, 21 Oct 2026 07:28:00 GMT'"}).status_code == status
        )


@pytest.mark.parametrize("sent", [b"", b"POST /v1/ranking HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_whole_headers_is_closed(
    standin: TinyStandIn, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(sockets, "HEADERS_SECONDS", 0.01)
    with standin.serving() as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 10) as connection:
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


async def test_headers_that_are_complete_are_waited_for_no_longer(protocol: ResettableProtocol) -> None:
    assert protocol._patience
    protocol.data_received(b"POST /v1/ranking HTTP/1.1\r\nHost: x\r\n")
    assert protocol._patience
    protocol.data_received(b"Content-Length: 9\r\n\r\n{")
    assert protocol._patience is None
    protocol.connection_lost(None)


async def test_a_reset_of_a_connection_that_is_gone_does_nothing(protocol: ResettableProtocol) -> None:
    protocol.transport.close()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await reset_connection({"state": protocol.app_state}, receive)
    protocol.connection_lost(None)
