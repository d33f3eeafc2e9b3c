"""Controlling a stand-in: its routes under /stand-in, and the client that notebooks use."""

import json
import socket
from collections.abc import Iterator
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
PLAN: dict[str, Any] = {
    "faults": [{"status": 503, "share": 0.5, "retry_after": "2"}, {"later": 1.5, "times": 3}],
    "seed": 7,
}


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


async def test_a_plan_is_set_shown_and_removed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/stand-in/faults", json=PLAN)
    explicit = [{"share": 1.0, **fault} for fault in PLAN["faults"]]
    assert (answer.status_code, answer.json()) == (200, PLAN | {"faults": explicit, "requests": 0, "injected": [0, 0]})
    assert (await client.get("/stand-in/faults")).json() == answer.json()
    assert (await client.delete("/stand-in/faults")).status_code == 204
    assert (await client.get("/stand-in/faults")).json()["faults"] == []


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
async def test_a_page_cannot_send_a_plan_without_a_preflight_request(
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


async def test_no_preflight_request_is_granted(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://example.com", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/stand-in/faults", headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- the client


def test_faults_hold_during_their_block_even_if_it_fails(url: str, control: StandInControl) -> None:
    def rank_and_fail() -> None:
        with control.faults("status=503 retry-after=1"):
            assert rank(url).status_code == 503
            raise KeyError

    with pytest.raises(KeyError):
        rank_and_fail()
    assert rank(url).status_code == 200


def test_the_seed_and_the_faults_arrive_as_given_and_are_counted(url: str, control: StandInControl) -> None:
    texts = ["status=429 retry-after='Wed, 21 Oct 2026 07:28:00 GMT' times=2", "delay=fixed seconds=0"]
    with control.faults(*texts, seed=9):
        assert [rank(url).status_code for _ in range(3)] == [429, 429, 200]
        state = control.faults_so_far()
    assert ([str(fault) for fault in state.faults], state.seed) == (texts, 9)
    assert (state.requests, state.injected) == (3, [2, 3])


def test_impossible_faults_are_refused_before_anything_is_sent(control: StandInControl) -> None:
    with pytest.raises(FaultError, match="add up to 2"), control.faults("status=503", "reset=before"):
        pass
    with pytest.raises(FaultError, match="stauts"), control.faults("stauts=503"):
        pass


def test_a_refusal_has_the_message_of_the_service(control: StandInControl) -> None:
    with (
        pytest.raises(ValueError, match=r"refused: .*at most 100 items"),
        control.faults(*["status=503 times=1"] * 101),
    ):
        pass


def test_a_behaviour_holds_during_its_block(standin: TinyStandIn, control: StandInControl) -> None:
    with control.behaviour("catalog"):
        assert standin.profile.name == "catalog"
    assert standin.profile.name == "nim-1.10"


def test_an_unknown_behaviour_is_refused_with_those_there_are(control: StandInControl) -> None:
    with (
        pytest.raises(ValueError, match=r"no behaviour 'nim-9'; it has nim-1\.9, nim-1\.10, nim-2, catalog"),
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


def test_the_address_may_end_in_v1_and_the_scheme_may_be_missing(url: str) -> None:
    for address in (url, f"{url}/", f"{url}/v1", f"{url}/v1/", url.removeprefix("http://")):
        assert StandInControl(address).requests() == []


def test_a_proxy_of_the_environment_does_not_matter(control: StandInControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert control.requests() == []


@pytest.mark.parametrize("path", ["/elsewhere", "/v1/health/ready"])
def test_another_service_is_recognized(url: str, path: str) -> None:
    control = StandInControl(url + path)
    with pytest.raises(StandInError, match="isn't a stand-in: only a stand-in can be controlled"):
        control.requests()
    with pytest.raises(StandInError, match="isn't a stand-in"), control.faults("status=503"):
        pass


def test_another_services_answer_is_recognized(standin: TinyStandIn, url: str) -> None:
    @standin.app.get("/other/stand-in/requests")
    async def requests() -> dict[str, str]:
        return {"title": "an index of all pages"}

    with pytest.raises(StandInError, match="isn't a stand-in"):
        StandInControl(f"{url}/other").requests()


def test_an_address_where_nothing_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServiceUnreachable, match="The stand-in could not be reached"):
        StandInControl(f"http://127.0.0.1:{port}").requests()


def test_a_malformed_address_is_refused() -> None:
    with pytest.raises(ValueError, match="not an address"):
        StandInControl("http://")
