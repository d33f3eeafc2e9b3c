"""Make `.venv` and fill it from locks/course.lock; a step that is already done is not done again.

Run it with any Python: `make setup`, or `python -m tools.environment.setup_env` where there is no make. It needs the
standard library only, and keeps to the syntax of Python 3.8 so that an old Python ends in a clear message.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.environment.setup_advice import SetupError, explain
from tools.environment.setup_python import VERSIONS, find_python, probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "locks/course.lock"
PROJECT = ROOT / "pyproject.toml"
VENV = ROOT / ".venv"
STAMP = VENV / "setup-done.json"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
UV = BIN / ("uv.exe" if os.name == "nt" else "uv")

# Wheels only: nothing is built here, and no package runs code of its own while it is installed.
WHEELS_WITH_HASHES = ["--require-hashes", "--only-binary", ":all:"]

# What uv writes to stderr while it works; pip's progress goes to stdout.
PROGRESS = re.compile(r" *(Resolved|Downloading|Prepared|Uninstalled|Installed|Bytecode compiled) ")


def say(text: str) -> None:
    """Print a line at once, so that it stands before what the next program prints."""
    print(text, flush=True)


def stanza(lock: str, package: str) -> str:
    """Cut one package with its hashes out of the text of a lock file.

    Raises:
        SetupError: If the lock does not have the package.
    """
    match = re.search(rf"^{re.escape(package)}==[^\\\n]+(\\\n +--hash=\S+ *)+", lock, re.MULTILINE)
    if not match:
        raise SetupError(f"locks/course.lock has no entry for {package}: remake it with make lock")
    return match.group() + "\n"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_stamp() -> dict[str, str]:
    """Return which steps are done, by name, with what they were done for."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def is_usable(done: Mapping[str, str], running: str, inside: object) -> bool:
    """Tell whether the environment can be kept.

    A copied or moved folder, another Python and an installation that was broken off all need a new one.

    Args:
        done: The stamp.
        running: Version of the Python that runs this tool, such as "3.12".
        inside: Version that the environment's own Python reports; None if it does not run.

    Returns:
        True if its packages were once complete, for this folder and this Python.
    """
    wanted = running if running in VERSIONS else inside
    return "lock" in done and done.get("root") == str(ROOT) and done.get("python") == inside == wanted


@contextlib.contextmanager
def step(done: dict[str, str], name: str, value: str) -> Iterator[None]:
    """Note in the stamp that a step is done, and until then that it is not."""
    done.pop(name, None)
    STAMP.write_text(json.dumps(done), encoding="utf-8")
    yield
    done[name] = value
    STAMP.write_text(json.dumps(done), encoding="utf-8")


def run(command: list[object], env: Mapping[str, str] | None = None) -> None:
    """Run a program of the set-up; its progress is shown, its complaints are kept and explained.

    Raises:
        SetupError: If it fails.
    """
    words = [str(word) for word in command]
    complaints = []
    with subprocess.Popen(
        words, cwd=ROOT, env=env, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", close_fds=False
    ) as process:
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


def make_venv() -> dict[str, str]:
    """Make a new environment that has pip only, and return its stamp."""
    chosen = find_python()
    say(f"Set-up: Python {chosen['version']} from {chosen['path']} into .venv")
    STAMP.unlink(missing_ok=True)
    run([chosen["path"], "-I", "-m", "venv", "--clear", VENV])
    return {"root": str(ROOT), "python": str(chosen["version"])}


def pip_install(options: list[object]) -> None:
    """Install with the environment's own pip, which follows the user's pip settings."""
    # A user who switched `pip install --user` on for good would otherwise be refused in an environment.
    env = dict(os.environ, PIP_USER="0")
    run(
        [PYTHON, "-I", "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check", *options],
        env,
    )


def uv_settings(env: Mapping[str, str], pip_config: str) -> dict[str, str]:
    """Hand the user's package index and certificates over to uv, which does not read pip's settings.

    Args:
        env: Environment variables; what they say for uv itself wins.
        pip_config: The output of `pip config list`: lines such as `global.index-url='...'`.

    Returns:
        The environment variables for uv.
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


def uv_packages(command: list[object], python: Path, env: Mapping[str, str]) -> None:
    """Bring the packages of a lock into an environment with uv, which is ten times as fast as pip.

    Args:
        command: What uv does and with which lock, such as `["sync", LOCK]`.
        python: The environment's Python.
        env: Environment variables for uv.

    Raises:
        SetupError: It failed.
    """
    # Copies: NLTK, which LlamaIndex splits sentences with, refuses to read files that are hard links. Compiled here:
    # of the many processes that Ray starts, each would compile all that it imports.
    ways = ["--link-mode=copy", "--compile-bytecode", "--system-certs"]
    run([UV, "pip", *command, *WHEELS_WITH_HASHES, *ways, "--python", python], env)


def install_lock() -> None:
    """Make the environment's packages those of locks/course.lock, no more and no fewer, each with its hash."""
    with tempfile.TemporaryDirectory() as folder:
        only_uv = Path(folder) / "uv.txt"
        only_uv.write_text(stanza(LOCK.read_text(encoding="utf-8"), "uv"), encoding="utf-8")
        pip_install(["--quiet", "--require-hashes", "-r", only_uv])
    say("Set-up: the packages in locks/course.lock")
    try:
        uv_packages(["sync", LOCK], PYTHON, uv_environment())
    except SetupError as failure:
        if failure.final:
            raise
        reason = str(failure).splitlines()[0]
        say(f"Set-up: uv could not install them ({reason}); pip tries the same and takes a minute or two")
        # pip would take the half of a package that uv left for the whole.
        make_venv()
        pip_install([*WHEELS_WITH_HASHES, "-r", LOCK])


def install_project() -> None:
    """Install the project itself so that its files are used where they are."""
    pip_install(["--quiet", "--no-build-isolation", "--no-index", "-e", ROOT])


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for a set-up that already runs in this folder."""
    if importlib.util.find_spec("fcntl") is None:
        yield
        return
    import fcntl

    with LOCK.open(encoding="utf-8") as file:
        # The programs of the set-up hold the lock too: when only this tool is killed, they go on writing.
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Set-up: another one runs in this folder; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def set_up() -> None:
    """Do the steps that are not done."""
    start = time.monotonic()
    done = read_stamp()
    running = "{}.{}".format(*sys.version_info)
    inside = probe(str(PYTHON)).get("version") if done else None
    if not is_usable(done, running, inside):
        done = make_venv()
    lock, project = digest(LOCK), digest(PROJECT)
    if done.get("lock") != lock:
        with step(done, "lock", lock):
            # The packages that go include the project itself.
            done.pop("project", None)
            install_lock()
    if done.get("project") != project:
        with step(done, "project", project):
            install_project()
        say(f"Set-up: done in {time.monotonic() - start:.0f} s")


def main() -> int:
    """Set the environment up and return the exit code."""
    # A killed set-up takes the program that it started down with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with one_at_a_time():
            set_up()
    except SetupError as failure:
        print(f"Set-up: {failure}", file=sys.stderr)
        return 1
    except OSError as failure:
        print(f"Set-up: {explain(str(failure))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Set-up: stopped. The next run starts it over.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
