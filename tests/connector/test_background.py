"""The background loop: how a process ends, forks and is interrupted, and what becomes of calls that hang."""

import asyncio
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from asking import client_of, passages, rank
from connector import background
from connector.background import BackgroundLoop, run_on_loop
from connector.client import RankingClient
from connector.endpoints import resolve_endpoint
from connector.errors import RerankError, RerankTimeout, ServiceUnreachable
from connector_alias import package_name
from http_fake import rank as rank_request
from http_fake import serving

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor signals of this kind")


def becomes_true(condition):
    """Let the background loop go on until something has happened."""
    return any(condition() or run_on_loop(asyncio.sleep, 0.002) for _ in range(30_000))


@pytest.fixture
def service():
    with serving() as running:
        yield running


@pytest.fixture
def silent():
    """A service that never answers; `reached` is set when it has a request."""

    def answer(_):
        running.reached.set()
        running.over.wait()

    with serving(answer) as running:
        running.reached = threading.Event()
        yield running


PREPARED = """
import asyncio, os, signal, sys, threading
from {package}.client import RankingClient
from {package}.endpoints import resolve_endpoint
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
client = RankingClient(resolve_endpoint("{origin}/v1", None, dict()), "m")
def rank(*numbers):
    return client.rank("q", [dict(text=str(number)) for number in numbers]).logits
async def arank(*numbers):
    return (await client.arank("q", [dict(text=str(number)) for number in numbers])).logits
"""
# Python 3.12 and later warn of each fork of a process with threads, as ours is after its first call.
NO_WARNING_OF_FORKS = ["-W", "ignore:This process:DeprecationWarning"]


def python(service, code, *options):
    """Start another Python that ranks with this service."""
    program = PREPARED.format(package=package_name(), origin=service.origin) + code
    root = Path(sys.modules[package_name()].__file__).parents[len(package_name().split("."))]
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *options, *NO_WARNING_OF_FORKS, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


def output_of(process, line=None):
    """Return the exit status and what was written, at the latest after two minutes."""
    try:
        output, warnings = process.communicate(line, timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, warnings = process.communicate()
    return process.returncode, output.strip(), warnings


ENDINGS = {
    "with open connections": "print(rank(1, 3))",
    "after sync and async calls": "rank(1); print(asyncio.run(arank(1, 3)))",
    "after two loops": "asyncio.run(arank(1)); print(asyncio.run(arank(1, 3)))",
    "closed, twice": "print(rank(1, 3)); client.close(); client.close(); asyncio.run(client.aclose())",
    "closed, and used again": "rank(1); client.close(); print(rank(1, 3))",
    "without a call": "print([1.0, 3.0])",
    "collected": "print(rank(1, 3)); del client; import gc; gc.collect()",
    "in a thread": "t = threading.Thread(target=lambda: print(rank(1, 3))); t.start(); t.join()",
    "by sys.exit": "print(rank(1, 3)); sys.exit(0)",
}


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_a_process_ends_without_a_word(service, code):
    status, output, warnings = output_of(python(service, code, "-W", "error", "-X", "dev"))
    warnings = [line for line in warnings.splitlines() if not line.startswith("Executing <")]  # a slow machine
    assert (status, output, warnings) == (0, "[1.0, 3.0]", [])


def test_a_process_ends_while_a_call_hangs(silent):
    # The thread prints no traceback: Python aborts if a daemon thread is writing to stderr while the process ends.
    code = "threading.excepthook = lambda _: None; threading.Thread(target=lambda: rank(1), daemon=True).start(); "
    code += "sys.stdin.readline(); print('over')"
    process = python(silent, code)
    assert silent.reached.wait(120)
    assert output_of(process, "\n")[:2] == (0, "over")


@posix
@pytest.mark.parametrize("call", ["rank(1)", "asyncio.run(arank(1))"], ids=["sync", "async"])
def test_an_interrupt_ends_a_call_at_once_and_the_next_one_ranks(silent, call):
    code = f"try: {call}\nexcept KeyboardInterrupt: print('interrupted', flush=True)\n"
    process = python(silent, code + "sys.stdin.readline()\nprint(rank(1, 3))")
    assert silent.reached.wait(120)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    silent.script = rank_request
    assert output_of(process, "\n") == (0, "[1.0, 3.0]", "")


@posix
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
target = client.endpoint
client = RankingClient(target, "m", deadline=0.1, http_client=mine)
try: rank(1)
except Exception as error: print(type(error).__name__, flush=True)
child = os.fork()
if child == 0:
    forked = True
    client = RankingClient(target, "m", http_client=mine)
    print(rank(1), flush=True)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""
    assert output_of(python(service, code))[1:] == ("RerankTimeout\n[1.0]", "")


async def test_all_calls_share_a_connection_until_the_client_is_closed(service):
    client = client_of(service)
    assert (await client.arank("q", passages(1))).logits == client.rank("q", passages(1)).logits
    await asyncio.to_thread(asyncio.run, client.arank("q", passages(1)))
    assert service.connections == 1
    client.close()
    client.rank("q", passages(1))
    assert service.connections == 2


def test_a_client_that_is_forgotten_closes_its_connections(service):
    client = client_of(service)
    rank(client, 1)
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
        return rank(client, number, number + 1).logits

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [[number, number + 1] for number in range(8)]
    assert len(loops) == 1
    client.close()
    loops[0].stop()


class Session:
    """Takes as long to close as it is told to."""

    def __init__(self):
        self.closed, self.may_close = False, asyncio.Event()

    async def close(self):
        await self.may_close.wait()
        self.closed = True


def test_a_loop_that_is_stopped_has_no_thread():
    loop, session = BackgroundLoop(), Session()
    session.may_close.set()
    loop.opened.add(session)
    pending = asyncio.run_coroutine_threadsafe(asyncio.sleep(600), loop.loop)
    loop.stop()
    assert not loop._thread.is_alive()
    assert (session.closed, pending.cancelled(), loop.loop.is_closed()) == (True, True, True)


def test_what_hangs_while_it_is_closed_does_not_delay_the_end(monkeypatch):
    monkeypatch.setattr(background, "EXIT_WAIT", 0.01)
    loop = BackgroundLoop()
    loop.opened.add(Session())
    loop.stop()
    loop._thread.join(60)
    assert not loop._thread.is_alive()


def test_where_no_thread_can_be_started_it_is_an_error_of_ours(monkeypatch, service):
    def start(_):
        raise RuntimeError("can't start new thread")

    client = client_of(service)
    monkeypatch.setattr(background, "_current", None)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ServiceUnreachable, match="can't start new thread"):
        rank(client, 1)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_a_thread_of_the_callers_client_is_an_error_of_ours(service, kind):
    def hook(_):
        raise kind

    mine = httpx.Client(event_hooks={"request": [hook]}, trust_env=False, verify=False)
    with mine, pytest.raises(RerankError, match=kind.__name__):
        rank(client_of(service, http_client=mine, max_retries=0), 1)
    assert rank(client_of(service), 1).logits == [1]


@pytest.fixture
def hanging(monkeypatch):
    """A client of the caller on which every ranking hangs until the test is over."""

    def answer(request):
        if request.method == "GET":
            return httpx.Response(404)
        over.wait()
        raise httpx.ReadTimeout("over")

    over = threading.Event()
    monkeypatch.setattr(background, "MOST_HANGING", 2)
    yield httpx.Client(transport=httpx.MockTransport(answer))
    over.set()
    assert becomes_true(lambda: not any(background._hanging.values()))


def test_a_client_that_hangs_is_left_at_the_deadline_and_refused_when_too_many_calls_hang(hanging, service, way):
    client, found = client_of(service, http_client=hanging, deadline=0.05), []
    while len(found) < 50 and not (found and "2 earlier calls" in str(found[-1])):  # a slow machine needs more calls
        with pytest.raises(RerankError) as raised:
            rank(client, 1, way=way)
        found.append(raised.value)
    *before, refusal = found
    assert "2 earlier calls" in str(refusal)
    assert {type(error) for error in before} == {RerankTimeout}
    assert rank(client_of(service), 1).logits == [1]  # with the connector's own client


def test_a_thread_that_a_server_holds_by_dripping_ends(service):
    service.script = lambda _: service.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    with httpx.Client(trust_env=False, verify=False) as mine:
        with pytest.raises(RerankTimeout):
            rank(client_of(service, deadline=0.5, http_client=mine), 1)
        assert becomes_true(lambda: not any(background._hanging.values()))


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
        return rank(client_of(service), 1, 3).logits

    assert asyncio.run(main()) == [1, 3]


def test_the_timeout_of_the_caller_ends_a_call(silent):
    async def call():
        async with asyncio.timeout(0.05):
            await client_of(silent).arank("q", passages(1))

    with pytest.raises(TimeoutError):
        asyncio.run(call())


def test_after_a_fork_another_loop_serves(monkeypatch, service):
    monkeypatch.setattr(background, "_current", background.get_background_loop())
    monkeypatch.setattr(background, "_inherited", [])
    client = client_of(service)
    rank(client, 1)
    inherited = background.get_background_loop()
    background._forget()
    assert rank(client, 2).logits == [2]
    client.close()
    assert background._inherited == [inherited]
    background._stop()
    assert background._current is None
    background._stop()  # of a process that never asked anything
    background._forget()
    assert background._inherited == [inherited]


def test_where_there_is_no_fork_nothing_is_registered_for_it(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    name = f"{background.__package__}.without_fork"
    spec = importlib.util.spec_from_file_location(name, background.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    assert module._current is None


@pytest.fixture
def socks(monkeypatch):
    """A SOCKS proxy, as httpx speaks to one where the package for it is installed."""
    from connector import transport
    from fake_service import FakeService

    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    service, clients = FakeService(), []

    def make(**arguments):
        clients.append((real(transport=httpx.MockTransport(service)), arguments))
        return clients[-1][0]

    real = httpx.Client
    monkeypatch.setattr(transport.httpx, "Client", make)
    return clients


def test_a_socks_proxy_is_spoken_to_by_httpx_and_after_a_fork_by_another_client(socks, monkeypatch):
    monkeypatch.setattr(background, "_current", background.get_background_loop())
    with RankingClient(resolve_endpoint("http://nim.example/v1", None, {}), "m") as client:
        assert [rank(client, number).logits for number in (1, 2)] == [[1], [2]]
        assert len(socks) == 1
        background._forget()
        rank(client, 1)
    background._stop()
    assert [arguments["proxy"] for _, arguments in socks] == ["socks5://proxy.example:1080"] * 2
    assert socks[1][0].is_closed


def test_a_socks_proxy_trusts_the_certificates_of_the_environment(socks, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
    with pytest.raises(RerankError, match="SSL_CERT_FILE"):
        rank(RankingClient(resolve_endpoint("https://nim.example/v1", None, {}), "m", max_retries=0), 1)
