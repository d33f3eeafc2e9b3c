"""Run pip and uv, and explain their failures."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.environment.failures import SetupError, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"
LOCK = LOCKS / "course.lock"
PROJECT = ROOT / "pyproject.toml"
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
UV = BIN / ("uv.exe" if os.name == "nt" else "uv")

# Wheels only: nothing is built here, and no package runs its code while it is installed.
WHEELS_WITH_HASHES = ["--require-hashes", "--only-binary", ":all:"]

# What uv writes to stderr while it works; pip's progress goes to stdout.
PROGRESS = re.compile(r" *(Resolved|Downloading|Prepared|Uninstalled|Installed|Bytecode compiled) ")


def say(text: str) -> None:
    """Print a line at once, before the next program prints."""
    print(text, flush=True)


def run(command: list[object], env: Mapping[str, str] | None = None) -> None:
    """Run a program and show its progress; its complaints become a `SetupError` if it fails."""
    words, complaints = [str(word) for word in command], []
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env=env, stderr=pipe, encoding="utf-8", errors="replace") as process:
        try:
            for line in process.stderr or ():
                if PROGRESS.match(line):
                    say("  " + line.strip())
                else:
                    complaints.append(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise explain("".join(complaints))


def pip_install(*options: object) -> None:
    """Install into `.venv` with its pip, which follows the user's pip settings."""
    # pip refuses to work in an environment where the user switched `pip install --user` on for good.
    env = dict(os.environ, PIP_USER="0")
    run([PYTHON, "-I", "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check", *options], env)


def uv_settings(env: Mapping[str, str], pip_config: str) -> dict[str, str]:
    """Return environment variables that give uv, which does not read pip's settings, pip's index and certificates.

    Args:
        env: Environment variables; those for uv itself win.
        pip_config: The output of `pip config list`: lines such as `global.index-url='...'`.
    """
    settings = dict(env)
    # pip's own order: variables before files, the command's section before the global one.
    for section in (":env:", "install", "global"):
        for option, variable in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
            value = re.search(rf"^{section}\.{option}='(.+)'$", pip_config, re.MULTILINE)
            if value and not (variable == "UV_DEFAULT_INDEX" and "UV_INDEX_URL" in env):
                settings.setdefault(variable, value.group(1))
    return settings


def uv_environment() -> dict[str, str]:
    """Return the environment variables for uv on this machine."""
    config = subprocess.run([PYTHON, "-I", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return uv_settings(os.environ, config.stdout)


def uv_packages(*command: object, python: Path = PYTHON) -> None:
    """Install the packages of a lock with uv; `command` is what it does, such as `"sync", LOCK`."""
    # Copies: NLTK, which LlamaIndex splits sentences with, refuses to read files that are hard links. Compiled: each of
    # the many processes that Ray starts would otherwise compile all that it imports.
    ways = ["--link-mode=copy", "--compile-bytecode", "--system-certs"]
    run([UV, "pip", *command, *WHEELS_WITH_HASHES, *ways, "--python", python], uv_environment())


@contextlib.contextmanager
def take_turns() -> Iterator[None]:
    """Wait for a set-up that already runs in this folder; on Windows nothing waits."""
    if importlib.util.find_spec("fcntl") is None:
        yield
        return
    import fcntl

    with LOCK.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Set-up: another one runs in this folder; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def exit_code(steps: Callable[[], object]) -> int:
    """Take the steps of a set-up; return 0, or 1 with what went wrong on stderr."""
    try:
        with take_turns():
            steps()
    except (SetupError, OSError) as failure:
        known = failure if isinstance(failure, SetupError) else explain(str(failure))
        print(f"Set-up: {known}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Set-up: stopped. The next run starts it over.", file=sys.stderr)
        return 130
    return 0
