"""Make `.venv` from locks/course.lock: `make setup`, or `python -m tools.environment.setup_env` where there is no make.

A step that is done is not done again. This needs the standard library only, and keeps to the syntax of Python 3.8 so
that an old Python can say which one is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from tools.environment.failures import SetupError
from tools.environment.install import (
    LOCK,
    PROJECT,
    PYTHON,
    ROOT,
    VENV,
    WHEELS_WITH_HASHES,
    exit_code,
    pip_install,
    run,
    say,
    uv_packages,
)
from tools.environment.pythons import VERSIONS, find_python, probe

STAMP = VENV / "setup-done.json"  # goes with the environment when that is made anew


def cut_entry(lock: str, package: str) -> str:
    """Return the entry of one package, with its hashes, from the text of a lock."""
    match = re.search(rf"^{re.escape(package)}==[^\\\n]+(\\\n +--hash=\S+ *)+", lock, re.MULTILINE)
    if not match:
        raise SetupError(f"locks/course.lock has no entry for {package}: remake it with make lock")
    return match.group() + "\n"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_stamp() -> dict[str, str]:
    """Return for which folder, Python, lock and project the environment was completed."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def is_usable(done: dict[str, str], running: str, inside: object) -> bool:
    """Return whether the environment can stay: complete, in the folder that it was made for, with the same Python.

    Args:
        done: The stamp.
        running: Version of the Python that runs this tool, such as "3.12".
        inside: Version that the environment's Python reports; None if it does not run.
    """
    wanted = running if running in VERSIONS else inside
    return done.get("root") == str(ROOT) and done.get("python") == inside == wanted


def make_venv() -> str:
    """Make a new environment that contains pip only, and return the version of its Python."""
    chosen = find_python()
    say(f"Set-up: Python {chosen['version']} from {chosen['path']} into .venv")
    run([chosen["path"], "-I", "-m", "venv", "--clear", VENV])
    return str(chosen["version"])


def install_lock() -> None:
    """Make the environment's packages those of locks/course.lock, no more and no fewer, each with its hash."""
    say("Set-up: the packages in locks/course.lock")
    try:
        with tempfile.TemporaryDirectory() as folder:
            only_uv = Path(folder) / "uv.txt"
            only_uv.write_text(cut_entry(LOCK.read_text(encoding="utf-8"), "uv"), encoding="utf-8")
            pip_install("--quiet", "--require-hashes", "-r", only_uv)
        uv_packages("sync", LOCK)
    except SetupError as failure:
        if failure.final:
            raise
        reason = str(failure).splitlines()[0]
        say(f"Set-up: uv could not install them ({reason}); pip tries the same and takes a minute or two")
        make_venv()  # pip would accept a package that uv left half installed
        pip_install(*WHEELS_WITH_HASHES, "-r", LOCK)


def set_up() -> None:
    """Do what is not done."""
    start, done = time.monotonic(), read_stamp()
    running = "{}.{}".format(*sys.version_info)
    if not is_usable(done, running, probe(str(PYTHON)).get("version") if done else None):
        done = {"root": str(ROOT), "python": make_venv()}
    lock, project = digest(LOCK), digest(PROJECT)
    if done.get("lock") == lock and done.get("project") == project:
        return
    if done.get("lock") != lock:
        STAMP.unlink(missing_ok=True)
        install_lock()
    pip_install("--quiet", "--no-build-isolation", "--no-index", "-e", ROOT)
    STAMP.write_text(json.dumps(dict(done, lock=lock, project=project)), encoding="utf-8")
    say(f"Set-up: done in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the exception also ends the program that was started
    sys.exit(exit_code(set_up))
