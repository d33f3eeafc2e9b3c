"""A run stays on this machine, and needs no torch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import offline_guard
import pytest

ROOT = Path(__file__).parent.parent
ELSEWHERE = "192.0.2.1"  # reserved for documentation by RFC 5737: nobody's machine


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log of the test's own, so that what it tries on purpose does not fail the run."""
    path = tmp_path / "offline.log"
    monkeypatch.setenv(offline_guard.LOG_VARIABLE, str(path))
    return path


def run_python(code, **variables):
    env = os.environ | variables
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "a.localhost.", b"localhost", "", None]
)
def test_hosts_of_this_machine_are_local(host):
    assert offline_guard.is_local(host)


@pytest.mark.parametrize(
    "host", [ELSEWHERE, "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%lo", "integrate.api.nvidia.com", b"example.org"]
)
def test_other_hosts_are_not_local(host):
    assert not offline_guard.is_local(host)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.create_connection((ELSEWHERE, 9), timeout=0.1),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (ELSEWHERE, 9)),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_leaving_the_machine_is_refused_and_noted(log, attempt):
    with pytest.raises(RuntimeError, match="would leave the machine"):
        attempt()
    assert len(log.read_text().splitlines()) == 1


def test_a_connection_to_this_machine_passes(log):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert not log.exists()


def test_a_python_started_by_a_test_is_watched_too(log):
    child = run_python("import socket; socket.getaddrinfo('example.org', 443)")
    assert "would leave the machine" in child.stderr
    assert "getaddrinfo 'example.org'" in log.read_text()


def test_a_hidden_sitecustomize_still_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('the hidden one')")
    child = run_python("", PYTHONPATH=os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)]))
    assert child.stdout == "the hidden one\n"


def test_a_run_fails_when_a_test_swallows_the_refusal(tmp_path):
    test = tmp_path / "test_swallowed.py"
    test.write_text(
        "import contextlib, socket\n"
        "def test_it():\n"
        "    with contextlib.suppress(RuntimeError):\n"
        "        socket.getaddrinfo('example.org', 443)\n"
    )
    options = ["-p", "conftest", "--rootdir", str(tmp_path), str(test)]
    code = f"import pytest; raise SystemExit(pytest.main({options}))"
    child = run_python(code)
    assert child.returncode == 1
    assert "1 passed" in child.stdout
    assert "getaddrinfo 'example.org'" in child.stdout


def test_importing_every_module_needs_no_torch():
    child = run_python(
        "import importlib, pkgutil, sys, nvrerank_helpers as package\n"
        "names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__'):\n"
        "        importlib.import_module(name)\n"
        "print('torch' in sys.modules, 'sentence_transformers' in sys.modules)"
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout == "False False\n"


def test_llamaindex_splits_sentences_without_a_download():
    from llama_index.core.node_parser import SentenceSplitter

    assert len(SentenceSplitter(chunk_size=50, chunk_overlap=0).split_text("A sentence of a few words. " * 30)) > 1
