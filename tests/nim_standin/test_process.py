"""The stand-in as a process: it starts, announces its address, and never outlives its parent."""

import ast
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest

from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.nim_standin import __main__ as command
from nvrerank_helpers.nim_standin import process
from nvrerank_helpers.nim_standin.cli import format_url, listen, parse_options
from nvrerank_helpers.nim_standin.process import READY, StandIn, StandInError
from nvrerank_helpers.nim_standin.profiles import MAX_BODY_BYTES, PROFILES
from nvrerank_helpers.nim_standin.scoring.engine import Engine
from nvrerank_helpers.nim_standin.server.service import StandInService

COMMAND = [sys.executable, "-m", "nvrerank_helpers.nim_standin"]
PARENT = (
    "from nvrerank_helpers.nim_standin.process import StandIn\n"
    "standin = StandIn('--threads=1')\n"
    "print(standin.base_url, flush=True)\n"
)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn("--threads=2") as standin:
        yield standin


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=60)


def wait_until_closed(url: str) -> None:
    """Wait until the service drops a connection and nobody listens any more."""
    address, deadline = httpx.URL(url), time.monotonic() + 60
    with suppress(ConnectionRefusedError, ConnectionResetError):
        while time.monotonic() < deadline:
            with socket.create_connection((address.host, address.port or 0), timeout=60) as connection:
                while connection.recv(1024):
                    pass
        raise AssertionError("the service still listens")


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command, and give the process and its address."""
    command = [*COMMAND, "--port=0", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as service:
        assert service.stdout
        line = service.stdout.readline()
        assert line.startswith(READY)
        yield service, line.removeprefix(READY).strip()


def test_it_can_rank_once_it_is_there_and_listens_on_loopback(standin: StandIn) -> None:
    assert get(f"{standin.base_url}/health/ready").status_code == 200
    assert standin.base_url.startswith("http://127.0.0.1:")


def test_it_need_not_be_waited_for() -> None:
    with StandIn("--threads=1", "--load-seconds=60", wait=False) as standin:
        assert get(f"{standin.base_url}/health/ready").status_code == 503


def test_it_serves_the_models_it_was_asked_for_whatever_proxies_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with StandIn("--model=a/one", "--model=b/two", "--threads=1") as standin:
        served = [entry["id"] for entry in get(f"{standin.base_url}/models").json()["data"]]
    assert served[:2] == ["a/one", "b/two"]
    wait_until_closed(standin.base_url)
    standin.close()


@pytest.mark.parametrize("ending", ["", "import os; os._exit(1)", "raise SystemExit(3)"])
def test_it_ends_when_its_parent_ends(ending: str) -> None:
    run = subprocess.run([sys.executable, "-c", PARENT + ending], capture_output=True, text=True, check=False)
    wait_until_closed(run.stdout.strip())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_it_ends_when_its_parent_is_killed() -> None:
    waiting = PARENT + "input()\n"
    with subprocess.Popen(
        [sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        url = parent.stdout.readline().strip()
        assert get(f"{url}/health/live").status_code == 200
        parent.kill()
    wait_until_closed(url)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups of this kind")
def test_an_interrupt_meant_for_the_notebook_does_not_reach_it(standin: StandIn) -> None:
    assert os.getpgid(standin.pid) != os.getpgid(0)


def test_a_port_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run([*COMMAND, f"--port={port}"], capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert run.stderr.count("\n") == 1
        assert f"Port {port} on 127.0.0.1 is already in use" in run.stderr
        with pytest.raises(StandInError, match="already in use"):
            StandIn(f"--port={port}")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are a POSIX matter")
def test_a_signal_while_it_starts_cannot_be_swallowed() -> None:
    program = (
        "import contextlib, os, signal\n"
        "from nvrerank_helpers.nim_standin import __main__ as command\n"
        "def stubborn():\n"
        "    with contextlib.suppress(BaseException):\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    os._exit(3)\n"
        "command.check_installed = stubborn\n"
        "command.main(['--port=0'])"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_the_queue_of_the_2_line_is_full_before_the_service_is() -> None:
    queue_limit = PROFILES["nim-2"].queue_limit
    assert queue_limit
    assert queue_limit < command._build_server(StandInService(Engine(lambda: None))).config.limit_concurrency


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform == "win32", reason="signals are a POSIX matter")
def test_a_signal_lets_what_is_in_flight_finish_and_ends_it_cleanly(number: signal.Signals) -> None:
    body = {"model": DEFAULT_MODEL, "query": {"text": "q"}, "passages": [{"text": "p"}]}
    slow = {"X-Stand-In-Fault": "delay=fixed seconds=1"}
    with (
        serving("--threads=1") as (service, url),
        httpx.Client(trust_env=False, timeout=60) as client,
        ThreadPoolExecutor() as pool,
    ):
        rank = partial(client.post, f"{url}/ranking", json=body, headers=slow)
        ranking = pool.submit(rank)
        while "nim_requests_in_flight 2.0" not in get(f"{url}/metrics").text:  # the ranking, and this one
            ranking = pool.submit(rank) if ranking.done() else ranking
        service.send_signal(number)
        _, errors = service.communicate(timeout=60)
        assert ranking.result().status_code == 200
    assert (service.returncode, errors) == (0, "")


def test_health_answers_while_clients_rank(standin: StandIn) -> None:
    stop = Event()
    passages = [{"text": f"passage {number} " * 40} for number in range(10)]

    def rank(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            for turn in count():
                body = {"model": DEFAULT_MODEL, "query": {"text": f"query {number} {turn}"}, "passages": passages}
                assert client.post(f"{standin.base_url}/ranking", json=body).status_code == 200
                if stop.is_set():
                    return

    with ThreadPoolExecutor() as pool, httpx.Client(trust_env=False, timeout=60) as client:
        ranking = [pool.submit(rank, number) for number in range(8)]
        statuses = {client.get(f"{standin.base_url}/health/ready").status_code for _ in range(50)}
        stop.set()
        assert [future.result() for future in ranking] == [None] * 8
    assert statuses == {200}


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"model": ' + b"9" * 100_000 + b"}",
        b'{"model": "' + b"a" * 15_000_000 + b'"}',
        b"\xff" * 1000,
    ],
    ids=["deep nesting", "a huge number", "a 15 MB string", "not UTF-8"],
)
def test_a_hostile_body_is_refused_and_does_no_harm(standin: StandIn, content: bytes) -> None:
    with httpx.Client(trust_env=False, timeout=60) as client:
        for path in ("ranking", "chat/completions", "embeddings"):
            headers = {"content-type": "application/json"}
            assert client.post(f"{standin.base_url}/{path}", content=content, headers=headers).status_code == 422
        assert client.get(f"{standin.base_url}/health/ready").status_code == 200


def test_a_body_beyond_the_limit_is_refused_before_it_has_come(standin: StandIn) -> None:
    with httpx.Client(trust_env=False, timeout=60) as client:
        answer = client.post(f"{standin.base_url}/ranking", content=b" " * (MAX_BODY_BYTES + 1))
        assert answer.status_code == 413
        assert client.get(f"{standin.base_url}/health/ready").status_code == 200


def test_weights_that_do_not_load_end_it_with_the_reason() -> None:
    program = (
        "from nvrerank_helpers.minilm import weights; from nvrerank_helpers.nim_standin import __main__ as command\n"
        "weights.SOURCES = {}\n"
        "raise SystemExit(command.main(['--port=0']))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "the extra `course`" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_address_beyond_loopback_is_warned_about() -> None:
    with serving("--host=0.0.0.0", "--stop-at-eof", "--threads=1") as (service, _):
        _, errors = service.communicate(timeout=60)
    assert "everyone who reaches this machine" in errors


def test_missing_parts_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "REQUIRED_MODULES", ("numpy", "not_installed_anywhere"))
    with pytest.raises(StandInError, match=r"not_installed_anywhere.\n.*the extra `course`"):
        StandIn()


def test_a_start_that_takes_too_long_leaves_no_process_behind() -> None:
    with pytest.raises(StandInError, match=r"not ready after 0\.01 s"):
        StandIn(timeout=0.01)


def test_starting_it_imports_little_more_than_the_standard_library() -> None:
    # A bare parent package, so that only the imports of this module count.
    program = (
        "import sys, types; package = types.ModuleType('nvrerank_helpers');"
        f"package.__path__ = [{str(Path(process.__file__).parents[1])!r}];"
        "sys.modules['nvrerank_helpers'] = package; before = set(sys.modules);"
        "import nvrerank_helpers.nim_standin.process;"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ast.literal_eval(run.stdout) == {"nvrerank_helpers", "lazy_loader"}


def test_a_response_does_not_wait_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_open_to_every_address_it_announces_one_that_can_be_reached() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert format_url(listener).startswith("http://127.0.0.1:")


@pytest.mark.parametrize("host", ["", "no such host", "203.0.113.7"])
def test_an_address_that_is_not_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(StandInError, match="Check --host"):
        listen(host, 0)


@pytest.mark.parametrize(
    "words",
    [
        "--port=99999",
        "--port=-1",
        "--model==5",
        "--model=a=0",
        "--model=m/1=3",
        f"--model={'m' * 129}",
        "--load-seconds=nan",
        "--load-seconds=1e10",
        "--behaviour=nim-3",
    ],
)
def test_an_impossible_option_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options([words])
    assert words.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(("options", "kept"), [([], True), (["--no-kept-vectors"], False)])
def test_vectors_are_kept_between_runs_unless_told_otherwise(options: list[str], kept: bool) -> None:
    assert parse_options(options).keep_vectors is kept
