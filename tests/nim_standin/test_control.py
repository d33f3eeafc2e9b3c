"""Controlling a stand-in: its routes under /stand-in, and the client that notebooks use."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from tiny_standin import BODY, TinyStandIn

from nvrerank_helpers.connector import ServiceUnreachable
from nvrerank_helpers.nim_standin.control import StandInControl
from nvrerank_helpers.nim_standin.faults.specs import FaultError
from nvrerank_helpers.nim_standin.process import StandInError
from nvrerank_helpers.nim_standin.server.admin_routes import MAX_CONTROL_BYTES

JSON = {"content-type": "application/json"}
PLAN = {"faults": [{"status": 503, "share": 0.5, "retry_after": "2"}, {"later": 1.5, "times": 3}], "seed": 7}


@pytest.fixture
def standin() -> TinyStandIn:
    return TinyStandIn()


@pytest.fixture
async def client(standin: TinyStandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with standin.client() as client:
        yield client


@pytest.fixture
def url(standin: TinyStandIn) -> Iterator[str]:
    with standin.serving() as url:
        yield url


@pytest.fixture
def control(url: str) -> StandInControl:
    return StandInControl(url)


def rank(url: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.post(f"{url}/v1/ranking", json=BODY)


# --- the routes


async def test_a_plan_is_set_shown_and_taken_away(standin: TinyStandIn, client: httpx.AsyncClient) -> None:
    shown = {"requests": 0, "injected": [0, 0]}
    put = await client.post("/stand-in/faults", json=PLAN)
    assert (put.status_code, put.json()) == (200, json.loads(json.dumps(explicit(PLAN) | shown)))
    assert (await client.get("/stand-in/faults")).json() == put.json()
    assert (await client.delete("/stand-in/faults")).status_code == 204
    assert (await client.get("/stand-in/faults")).json()["faults"] == []


def explicit(plan: dict[str, Any]) -> dict[str, Any]:
    return {**plan, "faults": [{"share": 1.0, **fault} for fault in plan["faults"]]}


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ({"faults": [{"status": 503, "share": 0.6}, {"reset": "before", "share": 0.6}]}, 409, "add up to 1.2"),
        ({"faults": [{"status": "503"}]}, 422, "body.faults.0.status.status: Input should be a valid integer"),
        ({"faults": [{"status": 503, "reset": "before"}]}, 422, "faults.0.status.reset: Extra inputs"),
        ({"faults": [{"stauts": 503}]}, 422, "A fault has one of: status, delay, reset, answer, later"),
        ({"faults": ["status=503"]}, 422, "A fault has one of: status, delay, reset, answer, later"),
        ({"faults": [], "sed": 1}, 422, "body.sed: Extra inputs"),
        ({}, 422, "body.faults: Field required"),
        (None, 422, "body"),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_with_the_reason(
    client: httpx.AsyncClient, content: Any, status: int, words: str
) -> None:
    answer = await client.post("/stand-in/faults", content=json.dumps(content).encode(), headers=JSON)
    assert answer.status_code == status
    assert words in answer.json()["message"]


@pytest.mark.parametrize("content", [b"", b"{", b'"\xff"', b"[" * 100_000, b"1" * 5000])
async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/stand-in/faults", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["object"]) == (422, "error")


async def test_a_body_that_is_too_long_for_a_plan_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/stand-in/faults", content=b" " * (MAX_CONTROL_BYTES + 1), headers=JSON)
    assert (answer.status_code, "larger than 1,048,576 bytes" in answer.json()["message"]) == (413, True)


async def test_a_long_name_is_repeated_in_part(client: httpx.AsyncClient) -> None:
    answer = await client.post("/stand-in/faults", json={"faults": [], "k" * 1000: 1})
    assert answer.json()["message"].startswith("body." + "k" * 64 + ": ")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_page_elsewhere_cannot_send_a_plan_without_being_asked(
    standin: TinyStandIn, client: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await client.post("/stand-in/faults", content=json.dumps(PLAN), headers=headers)
    assert (answer.status_code, "application/json" in answer.json()["message"]) == (415, True)
    assert standin.plan.state.faults == []


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_page_in_a_browser_is_refused(standin: TinyStandIn, client: httpx.AsyncClient, method: str) -> None:
    standin.inject("later=1")
    answer = await client.request(method, "/stand-in/faults", json=PLAN, headers={"Origin": "http://example.com"})
    assert (answer.status_code, [str(fault) for fault in standin.plan.state.faults]) == (403, ["later=1"])


async def test_nobody_tells_a_browser_that_a_page_may_ask(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://example.com", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/stand-in/faults", headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_requests_are_shown_and_forgotten(client: httpx.AsyncClient) -> None:
    await client.post("/v1/ranking", json=BODY)
    (record,) = (await client.get("/stand-in/requests")).json()
    assert (record["method"], record["status"]) == ("POST", 200)
    assert (await client.delete("/stand-in/requests")).status_code == 204
    assert (await client.get("/stand-in/requests")).json() == []


# --- the client


def test_faults_hold_during_their_block(url: str, control: StandInControl) -> None:
    with control.faults("status=503 retry-after=1"):
        assert rank(url).status_code == 503
    assert rank(url).status_code == 200


def test_faults_end_with_their_block_when_it_fails(url: str, control: StandInControl) -> None:
    with pytest.raises(KeyError), control.faults("status=503"):
        raise KeyError
    assert rank(url).status_code == 200


def test_the_seed_and_the_faults_arrive_as_they_were_given(standin: TinyStandIn, control: StandInControl) -> None:
    texts = ["status=429 retry-after='Wed, 21 Oct 2026 07:28:00 GMT' times=2", "delay=fixed seconds=0.25 share=0.5"]
    with control.faults(*texts, seed=9):
        state = control.faults_so_far()
    assert ([str(fault) for fault in state.faults], state.seed) == (texts, 9)


def test_faults_that_cannot_be_are_refused_before_anything_is_sent(control: StandInControl) -> None:
    with pytest.raises(FaultError, match="add up to 2"), control.faults("status=503", "reset=before"):
        pass
    with pytest.raises(FaultError, match="stauts"), control.faults("stauts=503"):
        pass


def test_what_the_service_refuses_is_said_in_its_words(control: StandInControl) -> None:
    with (
        pytest.raises(ValueError, match=r"refused: .*at most 100 items"),
        control.faults(*["status=503 times=1"] * 101),
    ):
        pass


def test_what_happened_is_counted(url: str, control: StandInControl) -> None:
    with control.faults("status=503 times=1"):
        assert [rank(url).status_code for _ in range(3)] == [503, 200, 200]
        assert (control.faults_so_far().requests, control.faults_so_far().injected) == (3, [1])


def test_a_behaviour_holds_during_its_block(standin: TinyStandIn, control: StandInControl) -> None:
    with control.behaviour("catalog"):
        assert standin.behaviour == "catalog"
    assert standin.behaviour == "nim-1.10"


def test_an_unknown_behaviour_is_refused_with_those_there_are(control: StandInControl) -> None:
    with (
        pytest.raises(ValueError, match=r"no behaviour 'nim-9'; it has nim-1\.10, catalog"),
        control.behaviour("nim-9"),
    ):
        pass


def test_requests_are_read_back_as_they_went_over_the_wire(url: str, control: StandInControl) -> None:
    rank(url)
    (record,) = control.requests()
    assert repr(record).startswith("POST /v1/ranking HTTP/1.1\nhost: ")
    assert json.loads(record.body) == BODY
    control.clear()
    assert control.requests() == []


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_as_that_of_a_service(url: str, ending: str) -> None:
    assert StandInControl(url + ending).requests() == []


def test_the_scheme_may_be_left_out(url: str) -> None:
    assert StandInControl(url.removeprefix("http://")).requests() == []


def test_a_proxy_of_the_environment_does_not_matter(control: StandInControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert control.requests() == []


@pytest.mark.parametrize("path", ["/elsewhere", "/v1/health/ready"])
def test_a_service_that_is_no_stand_in_is_said_to_be_none(url: str, path: str) -> None:
    control = StandInControl(url + path)
    with pytest.raises(StandInError, match="no stand-in: faults can be injected into the stand-in only"):
        control.requests()
    with pytest.raises(StandInError, match="no stand-in"), control.faults("status=503"):
        pass


def test_an_answer_that_is_not_a_stand_ins_is_noticed(standin: TinyStandIn, url: str) -> None:
    @standin.app.get("/other/stand-in/requests")
    async def requests() -> dict[str, str]:
        return {"title": "an index of all pages"}

    with pytest.raises(StandInError, match="no stand-in"):
        StandInControl(f"{url}/other").requests()


def test_an_address_where_nothing_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServiceUnreachable, match="The stand-in could not be reached"):
        StandInControl(f"http://127.0.0.1:{port}").requests()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not an address"):
        StandInControl("http://")
