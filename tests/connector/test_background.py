import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from connector import background
from connector.background import BackgroundLoop, run
from connector.client import RankingClient
from connector.endpoints import endpoint
from connector.errors import RerankError, RerankTimeout, ServiceUnreachable
from connector_alias import package_name
from raw_service import rank, serving

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor signals of this kind")


def passages(*numbers):
    return [{"text": str(number)} for number in numbers]


def becomes_true(condition):
    """Let the background loop go on until something has happened."""
    return any(condition() or run(asyncio.sleep, 0.001) for _ in range(5000))


def client_of(service, **arguments):
    return RankingClient(endpoint(f"{service.origin}/v1", None, {}), "m", **arguments)


@pytest.fixture
def service():
    with serving() as running:
        yield running


@pytest.fixture
def silent():
    """A service that never answers; `reached` is set when it has a request."""

    def answer(head, body):
        if head.startswith(b"POST "):
            running.reached.set()
            running.over.wait()
        return rank(head, body) if head.startswith(b"GET ") else None

    with serving(answer) as running:
        running.reached, running.over = threading.Event(), threading.Event()
        yield running
        running.over.set()


PREPARED = """
import asyncio, os, signal, sys, threading
from {package}.client import RankingClient
from {package}.endpoints import endpoint
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
client = RankingClient(endpoint("{origin}/v1", None, dict()), "m")
def rank(*numbers):
    return client.rank("q", [dict(text=str(number)) for number in numbers]).logits
async def arank(*numbers):
    return (await client.arank("q", [dict(text=str(number)) for number in numbers])).logits
"""


# Python 3.12 and later warn of each fork of a process with threads, as ours is after its first call.
NO_WARNING_OF_FORKS = ["-W", "ignore:This process:DeprecationWarning"]


def python(service, code, *options, **arguments):
    """Start another Python that ranks with this service."""
    program = PREPARED.format(package=package_name(), origin=service.origin) + code
    paths = os.pathsep.join(filter(None, [*sys.path[:0], str(root()), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *options, *NO_WARNING_OF_FORKS, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        **arguments,
    )


def root():
    package = sys.modules[package_name()]
    return Path(package.__file__).parents[len(package_name().split("."))]


def output_of(process):
    try:
        said, warned = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        said, warned = process.communicate()
    return process.returncode, said.strip(), warned


ENDINGS = {
    "with open connections": "print(rank(1, 3))",
    "after sync and async calls": "rank(1); print(asyncio.run(arank(1, 3)))",
    "after two loops": "asyncio.run(arank(1)); print(asyncio.run(arank(1, 3)))",
    "closed": "print(rank(1, 3)); client.close()",
    "closed, twice": "print(rank(1, 3)); client.close(); client.close(); asyncio.run(client.aclose())",
    "closed, and used again": "rank(1); client.close(); print(rank(1, 3))",
    "without a call": "print([1.0, 3.0])",
    "collected": "print(rank(1, 3)); del client; import gc; gc.collect()",
    "in a thread": "t = threading.Thread(target=lambda: print(rank(1, 3))); t.start(); t.join()",
    "by sys.exit": "print(rank(1, 3)); sys.exit(0)",
}


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_a_process_ends_without_a_word(service, code):
    status, said, warned = output_of(python(service, code, "-W", "error", "-X", "dev"))
    warned = [line for line in warned.splitlines() if not line.startswith("Executing <")]  # a slow machine
    assert (status, said, warned) == (0, "[1.0, 3.0]", [])


def test_a_process_ends_while_a_call_hangs(silent):
    code = "threading.Thread(target=lambda: rank(1), daemon=True).start(); sys.stdin.readline(); print('over')"
    process = python(silent, code, stdin=subprocess.PIPE)
    assert silent.reached.wait(60)
    process.stdin.write("\n")
    process.stdin.flush()
    assert output_of(process)[:2] == (0, "over")


@posix
@pytest.mark.parametrize("call", ["rank(1)", "asyncio.run(arank(1))"], ids=["sync", "async"])
def test_an_interrupt_ends_a_call_at_once(silent, call):
    process = python(silent, f"try: {call}\nexcept KeyboardInterrupt: print('interrupted')")
    assert silent.reached.wait(60)
    process.send_signal(signal.SIGINT)
    assert output_of(process) == (0, "interrupted", "")


@posix
def test_after_an_interrupt_the_next_call_ranks(silent):
    code = "try: rank(1)\nexcept KeyboardInterrupt: print('interrupted', flush=True)\n"
    code += "sys.stdin.readline()\nprint(rank(1, 3))"
    process = python(silent, code, stdin=subprocess.PIPE)
    assert silent.reached.wait(60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    silent.answer = rank
    process.stdin.write("\n")
    process.stdin.flush()
    assert output_of(process)[:2] == (0, "[1.0, 3.0]")


@posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("again", ["rank(2, 4)", "asyncio.run(arank(2, 4))"], ids=["sync", "async"])
def test_a_child_of_a_fork_ranks_again_and_so_does_its_parent(service, again):
    code = f"""
rank(1)
child = os.fork()
if child == 0:
    print({again}, flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(rank(1, 3))
"""
    assert output_of(python(service, code)) == (0, "[2.0, 4.0]\n[1.0, 3.0]", "")
    assert service.connections >= 2  # none of them is shared


@posix
def test_workers_that_are_forked_rank(service):
    code = """
import multiprocessing
if __name__ == "__main__":
    rank(1)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(rank, [1, 2, 3]))
"""
    assert output_of(python(service, code))[:2] == (0, "[[1.0], [2.0], [3.0]]")


def test_nest_asyncio_leaves_no_word_behind(service):
    pytest.importorskip("nest_asyncio")
    code = """
import nest_asyncio
nest_asyncio.apply()
async def main():
    return rank(1), await arank(2), asyncio.run(arank(3))
print(asyncio.run(main()))
"""
    assert output_of(python(service, code)) == (0, "([1.0], [2.0], [3.0])", "")


def test_asyncio_run_twice_uses_one_connection(service):
    client = client_of(service)
    for _ in range(3):
        asyncio.run(client.arank("q", passages(1)))
    client.rank("q", passages(1))
    assert service.connections == 1


async def test_sync_and_async_calls_share_their_connections(service):
    client = client_of(service)
    assert (await client.arank("q", passages(1))).logits == client.rank("q", passages(1)).logits
    assert service.connections == 1


def test_after_close_a_call_opens_a_new_connection(service):
    client = client_of(service)
    client.rank("q", passages(1))
    client.close()
    client.rank("q", passages(1))
    assert service.connections == 2


def test_a_client_that_is_forgotten_closes_its_connections(service):
    client = client_of(service)
    client.rank("q", passages(1))
    session = client._own._session
    del client
    gc.collect()
    assert becomes_true(lambda: session.closed)


def test_eight_threads_at_the_first_use_share_one_loop(monkeypatch, service):
    loops, begin = [], threading.Barrier(8)

    class Counted(BackgroundLoop):
        def __init__(self):
            loops.append(self)
            super().__init__()

    monkeypatch.setattr(background, "BackgroundLoop", Counted)
    monkeypatch.setattr(background, "_current", None)
    client = client_of(service)

    def call(number):
        begin.wait()
        return client.rank("q", passages(number, number + 1)).logits

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [[number, number + 1] for number in range(8)]
    assert len(loops) == 1
    client.close()
    loops[0].stop()


def test_a_loop_that_is_stopped_has_no_thread():
    loop = BackgroundLoop()
    closed = []

    async def close():
        closed.append(True)

    loop.opened["something"] = close
    pending = asyncio.run_coroutine_threadsafe(asyncio.sleep(600), loop.loop)
    loop.stop()
    assert not loop._thread.is_alive()
    assert (closed, pending.cancelled(), loop.loop.is_closed()) == ([True], True, True)


def test_what_hangs_while_it_is_closed_does_not_delay_the_end(monkeypatch):
    monkeypatch.setattr(background, "EXIT_WAIT", 0.01)
    loop = BackgroundLoop()
    over = asyncio.Event()
    loop.opened["something"] = over.wait
    loop.stop()
    assert not loop._thread.is_alive()


def test_where_no_thread_can_be_started_it_is_an_error_of_ours(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background, "_current", None)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ServiceUnreachable, match="can't start new thread"):
        client_of(SimpleService).rank("q", passages(1))


class SimpleService:
    origin = "http://127.0.0.1:9"


def test_a_hook_that_ends_its_thread_ends_the_call_and_not_the_loop(service):
    code = """
import httpx
mine = httpx.Client(event_hooks=dict(request=[lambda _: sys.exit()]), trust_env=False, verify=False)
address = client.endpoint
client = RankingClient(address, "m", http_client=mine, max_retries=0)
try: rank(1)
except BaseException as error: print(type(error).__mro__[-4].__name__, flush=True)
client = RankingClient(address, "m")
print(rank(1, 3))
"""
    assert output_of(python(service, code)) == (0, "RerankError\n[1.0, 3.0]", "")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_a_thread_of_the_callers_client_is_an_error_of_ours(service, kind):
    def hook(_):
        raise kind

    mine = httpx.Client(event_hooks={"request": [hook]}, trust_env=False, verify=False)
    with mine, pytest.raises(RerankError, match=kind.__name__):
        client_of(service, http_client=mine, max_retries=0).rank("q", passages(1))
    assert client_of(service).rank("q", passages(1)).logits == [1]


class Hanging:
    """A client of the caller on which every ranking hangs until the test is over."""

    def __init__(self):
        self.over = threading.Event()
        self.client = httpx.Client(transport=httpx.MockTransport(self))

    def __call__(self, request):
        if request.method == "GET":
            return httpx.Response(404)
        self.over.wait()
        raise httpx.ReadTimeout("over")


@pytest.fixture
def hanging(monkeypatch):
    monkeypatch.setattr(background, "MOST_HANGING", 2)
    found = Hanging()
    yield found.client
    found.over.set()
    assert becomes_true(lambda: not any(background._Job.hanging.values()))


def errors_of(call):
    """Call until it is refused; a slow machine may need more calls than two until two of them hang."""
    found = []
    while len(found) < 50 and not (found and "earlier calls" in str(found[-1])):
        with pytest.raises(RerankError) as raised:
            call()
        found.append(raised.value)
    return found


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_client_that_hangs_is_left_at_the_deadline_and_refused_when_too_many_calls_hang(hanging, service, way):
    client = client_of(service, http_client=hanging, deadline=0.05)
    calls = {
        "sync": lambda: client.rank("q", passages(1)),
        "async": lambda: asyncio.run(client.arank("q", passages(1))),
    }
    *before, refusal = errors_of(calls[way])
    assert {type(error) for error in before} == {RerankTimeout}
    assert "2 earlier calls" in str(refusal)


def test_hanging_calls_do_not_count_against_the_connectors_own_client(hanging, service):
    client = client_of(service, http_client=hanging, deadline=0.05)
    errors_of(lambda: client.rank("q", passages(1)))
    assert client_of(service).rank("q", passages(1)).logits == [1]


@posix
def test_a_child_of_a_fork_does_not_count_the_calls_that_hang_in_its_parent(service):
    code = f"""
import httpx, json
from {package_name()} import background
background.MOST_HANGING = 1
def answer(request):
    if request.method == "POST" and not forked:
        threading.Event().wait()
    return httpx.Response(200, json=dict(rankings=[dict(index=0, logit=1.0)], data=[dict(id="m")]))
forked = False
mine = httpx.Client(transport=httpx.MockTransport(answer))
client = RankingClient(endpoint("http://nim.example/v1", None, dict()), "m", deadline=0.1, http_client=mine)
try: rank(1)
except Exception as error: print(type(error).__name__, flush=True)
child = os.fork()
if child == 0:
    forked = True
    client = RankingClient(endpoint("http://nim.example/v1", None, dict()), "m", http_client=mine)
    print(rank(1), flush=True)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""
    assert output_of(python(service, code))[1:] == ("RerankTimeout\n[1.0]", "")


def test_a_cancelled_call_closes_its_connection(silent):
    async def call():
        task = asyncio.ensure_future(client.arank("q", passages(1)))
        await asyncio.to_thread(silent.reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    client = client_of(silent)
    asyncio.run(call())
    assert becomes_true(lambda: not client._own._session.connector._acquired)


def test_a_call_within_a_running_loop_ranks(service):
    async def main():
        return client_of(service).rank("q", passages(1, 3)).logits

    assert asyncio.run(main()) == [1, 3]


def test_the_timeout_of_the_caller_ends_a_call(silent):
    async def call():
        async with asyncio.timeout(0.05):
            await client_of(silent).arank("q", passages(1))

    with pytest.raises(TimeoutError):
        asyncio.run(call())
