"""What nginx, as it is deployed, makes of requests and of answers that are no rankings."""

from collections.abc import Iterator

import httpx
import pytest
from http_fake import reply, serving

from deploy.balancer import NGINX, Balancer, free_port
from deploy.load import Load
from deploy.standins import QUERIES, Pair, body, connector, ranking, right_answers
from nvrerank_helpers.nim_standin import StandInControl

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: on Debian, apt-get install nginx-light")

FINE = reply({})
BUSY = "status=503 retry-after=7"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.fixture
def balancer(pair: Pair) -> Iterator[Balancer]:
    with Balancer(*pair.addresses) as balancer:
        yield balancer


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


def rank(client: httpx.Client, balancer: Balancer) -> httpx.Response:
    return client.post(f"{balancer.base_url}/ranking", json=body(QUERIES[0]))


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}/v1"


def test_a_busy_service_is_not_seen_from_outside(pair: Pair, balancer: Balancer, client: httpx.Client) -> None:
    right = right_answers(pair.addresses[1])[QUERIES[0]]
    with StandInControl(pair.addresses[0]).faults(BUSY):
        assert [ranking(rank(client, balancer)) for _ in range(20)] == [right] * 20
    assert "503, 200" in {entry["answered"] for entry in balancer.log(20)}


def test_where_both_are_busy_the_client_reads_it_from_the_service_itself(
    pair: Pair, balancer: Balancer, client: httpx.Client
) -> None:
    first, second = (StandInControl(address) for address in pair.addresses)
    with first.faults(BUSY), second.faults(BUSY):
        answers = [rank(client, balancer) for _ in range(5)]
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "7")}
    assert {answer.json()["object"] for answer in answers} == {"error"}


def test_when_both_are_no_longer_busy_the_next_call_is_answered(
    pair: Pair, balancer: Balancer, client: httpx.Client
) -> None:
    first, second = (StandInControl(address) for address in pair.addresses)
    with first.faults(BUSY), second.faults(BUSY):
        rank(client, balancer)
    assert rank(client, balancer).status_code == 200


@pytest.mark.parametrize("status", [429, 500])
def test_what_another_service_should_not_be_asked_goes_straight_back(
    status: int, pair: Pair, balancer: Balancer, client: httpx.Client
) -> None:
    first, second = (StandInControl(address) for address in pair.addresses)
    fault = f"status={status} retry-after=7"
    with first.faults(fault), second.faults(fault):
        answer = rank(client, balancer)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert "," not in balancer.log(1)[-1]["asked"]


def test_a_service_that_hangs_is_given_up_and_the_other_answers(pair: Pair, client: httpx.Client) -> None:
    with (
        Balancer(*pair.addresses, read_timeout="1s") as balancer,
        StandInControl(pair.addresses[0]).faults("delay=fixed seconds=30"),
    ):
        assert {rank(client, balancer).status_code for _ in range(6)} == {200}
        assert "504, 200" in {entry["answered"] for entry in balancer.log(6)}


def test_an_answer_that_breaks_off_is_beyond_nginx_and_the_connector_asks_again(pair: Pair, balancer: Balancer) -> None:
    right = right_answers(pair.addresses[0])
    first, second = (StandInControl(address) for address in pair.addresses)
    once = "reset=middle times=1"
    with first.faults(once), second.faults(once), connector(balancer.base_url, right, 1) as ask:
        assert ask(0, 0) == balancer.broken_off() > 0


def test_where_nobody_answers_the_client_is_told_in_the_words_of_a_nim(client: httpx.Client) -> None:
    with Balancer(nowhere(), nowhere()) as balancer:
        answer = rank(client, balancer)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.headers["x-request-id"] in answer.json()["message"]


def test_connections_to_the_services_are_kept() -> None:
    with (
        serving(FINE) as first,
        serving(FINE) as second,
        Balancer(first.base_url, second.base_url) as balancer,
    ):
        with httpx.Client(trust_env=False) as client:

            def ask(_: int, __: int) -> int:
                client.post(f"{balancer.base_url}/ranking", json={}).raise_for_status()
                return 0

            with Load(ask, clients=8) as load:
                load.wait_for(500)
        assert load.errors == []
    requests, connections = (len(one.received) for one in (first, second)), first.connections + second.connections
    assert sum(requests) >= 500
    assert connections <= 16  # of eight clients at two services
    assert "connection" not in first.received[0].headers


def test_a_body_that_does_not_fit_into_memory_is_sent_to_the_other_service_too(client: httpx.Client) -> None:
    with (
        serving(reply({}, 503)) as busy,
        serving(FINE) as free,
        Balancer(busy.base_url, free.base_url) as balancer,
    ):
        for _ in range(2):  # whichever is asked first
            client.post(f"{balancer.base_url}/ranking", content=b" " * 5_000_000).raise_for_status()
        assert "503, 200" in {entry["answered"] for entry in balancer.log(2)}
    assert [len(request.body) for request in free.received] == [5_000_000] * 2


def test_a_body_beyond_the_limit_is_refused_with_a_reason(balancer: Balancer, client: httpx.Client) -> None:
    answer = client.post(f"{balancer.base_url}/ranking", content=b" " * (64 * 2**20 + 1))
    assert answer.status_code == 413
    assert "64 MB" in answer.json()["message"]


@pytest.mark.parametrize(("sent", "kept"), [("order-4711.a", True), ("two words", False), ("x" * 129, False)])
def test_a_harmless_request_id_is_kept_from_client_to_service_and_back(sent: str, kept: bool) -> None:
    with serving(FINE) as service, Balancer(service.base_url, service.base_url) as balancer:
        answer = httpx.post(f"{balancer.base_url}/ranking", json={}, headers={"X-Request-Id": sent}, trust_env=False)
        noted = balancer.log(1)[-1]["id"]
    ids = {answer.headers["x-request-id"], service.received[0].headers["x-request-id"], noted}
    assert len(ids) == 1
    assert (ids == {sent}) == kept


def test_a_key_that_a_client_sends_goes_no_further_and_is_not_noted() -> None:
    key = {"Authorization": "Bearer nvapi-not-a-real-key"}
    with serving(FINE) as service, Balancer(service.base_url, service.base_url) as balancer:
        httpx.post(f"{balancer.base_url}/ranking", json={}, headers=key, trust_env=False)
        assert "nvapi" not in str(balancer.log(1))
    assert "authorization" not in service.received[0].headers


@pytest.mark.parametrize("path", ["/v1/metrics", "/metrics", "/stand-in/requests", "/"])
def test_what_belongs_to_one_service_is_not_passed_through(path: str, balancer: Balancer, client: httpx.Client) -> None:
    assert client.get(balancer.address + path).status_code == 404


def test_readiness_is_that_of_a_service_and_not_of_nginx(client: httpx.Client) -> None:
    with Balancer(nowhere(), nowhere()) as balancer:
        assert client.get(f"{balancer.base_url}/health/ready").status_code == 503
        assert client.get(f"{balancer.address}/nginx/health").status_code == 200
