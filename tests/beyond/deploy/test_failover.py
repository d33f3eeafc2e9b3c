"""Under load, behind nginx as it is deployed: services are killed and restarted, and no call fails."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from deploy.balancer import NGINX, Balancer
from deploy.load import Load
from deploy.standins import SLOW, Ask, Pair, bare, connector, right_answers

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: on Debian, apt-get install nginx-light")

CLIENTS = 8
Clients = Callable[..., AbstractContextManager[Ask]]


@dataclass
class Scene:
    """Two services, nginx before them, and clients that ask it all the time."""

    pair: Pair
    balancer: Balancer
    load: Load

    def answers(self, number: int, since: int = 0) -> int:
        """How many calls a service answered, of those that nginx has noted, without the first ones."""
        host = self.pair.hosts[number]
        return sum((entry["asked"], entry["answered"]) == (host, "200") for entry in self.balancer.log()[since:])

    def wait_until_asked(self, number: int) -> None:
        """Wait until a service answers calls from now on."""
        since = len(self.balancer.log())
        self.load.wait_until(lambda: self.answers(number, since) > 0)


@contextmanager
def under_load(clients: Clients = bare) -> Iterator[Scene]:
    """Ask both services through nginx during a `with` block, and see at its end that every call was answered right.

    One case is beyond nginx: a service that dies between the head and the body of its answer, less than a millisecond.
    What broke off in this way is repeated by the connector; with httpx alone, it is all that may be missing.
    """
    with Pair(SLOW) as pair, Balancer(*pair.addresses) as balancer:
        with (
            clients(balancer.base_url, right_answers(pair.addresses[0]), CLIENTS) as ask,
            Load(ask, CLIENTS) as load,
        ):
            load.wait_for(100)
            yield Scene(pair, balancer, load)
        assert load.errors == []
        assert load.broken_off == balancer.broken_off()


@pytest.mark.parametrize("clients", [bare, connector])
def test_no_call_fails_when_a_service_is_killed(clients: Clients) -> None:
    with under_load(clients) as scene:
        assert min(scene.answers(0), scene.answers(1)) > 20
        scene.pair.kill(0)
        scene.load.wait_for(200)
        saved = [entry for entry in scene.balancer.log() if "," in entry["asked"]]
    assert saved  # calls were in flight in the killed one, and nginx asked the other for them
    assert len(saved) < 50  # and it did not go on asking the dead one


def test_a_service_that_comes_back_is_asked_again() -> None:
    with under_load() as scene:
        scene.pair.kill(0)
        scene.load.wait_for(50)
        scene.pair.start(0)
        scene.wait_until_asked(0)


@pytest.mark.parametrize("clients", [bare, connector])
def test_no_call_fails_when_the_services_are_restarted_in_turn(clients: Clients) -> None:
    with under_load(clients) as scene:
        for number in (0, 1):
            scene.pair.stop(number)
            scene.load.wait_for(50)
            scene.pair.start(number)
            scene.wait_until_asked(number)


@pytest.mark.parametrize("clients", [bare, connector])
def test_no_call_fails_when_the_second_is_killed_before_nginx_has_tried_the_first_again(clients: Clients) -> None:
    with under_load(clients) as scene:
        scene.pair.kill(0)
        scene.load.wait_for(20)
        scene.pair.start(0)
        scene.pair.kill(1)
        scene.load.wait_for(100)
