"""For unit tests and notebooks alike: a run that would leave this machine fails."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

GUARD = Path(__file__).parent / "tests" / "offline"

sys.path.insert(0, str(GUARD))
import offline_guard  # noqa: E402

collect_ignore_glob = ["*/conftest.py"]  # several of one name cannot be searched for examples; all are still used


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of tests/golden."""
    parser.addoption("--record", action="store_true", help="write the golden files anew")


def pytest_configure() -> None:
    """Watch this process, and by PYTHONPATH every Python that it starts."""
    offline_guard.install()
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"  # a person's own .env may hold a key
    # Tests and notebooks encode a text once together, and none of them writes to a person's cache.
    os.environ.setdefault("NVRERANK_KEPT_VECTORS", str(Path(__file__).parent / "build" / "kept-vectors"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARD), os.environ.get("PYTHONPATH")]))
    file, os.environ[offline_guard.LOG_VARIABLE] = tempfile.mkstemp(prefix="offline-", suffix=".log")
    os.close(file)


def attempts() -> list[str]:
    """Return what was stopped, a line each, in this process and those it started."""
    return Path(os.environ[offline_guard.LOG_VARIABLE]).read_text(encoding="utf-8").splitlines()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run, also where a test swallowed the error."""
    if attempts():
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was stopped."""
    if attempts():
        terminalreporter.section("stopped: this would have left the machine", red=True, bold=True)
        for line in attempts():
            terminalreporter.write_line(line)


def pytest_unconfigure() -> None:
    """Leave no log behind."""
    Path(os.environ[offline_guard.LOG_VARIABLE]).unlink()
