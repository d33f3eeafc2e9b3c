"""Runs the stand-in as a child process that never outlives its parent."""

import atexit
import importlib.util
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from nvrerank_helpers.connector import RerankError

READY = "ready: "
"""What the child writes before its address, on a separate line, once it can rank."""

LISTENING = "listening: "
"""The same with `--announce=listening`, once it accepts connections."""

GRACE_SECONDS = 3
"""How long open requests may take to finish when the service is told to stop."""

REQUIRED_MODULES = (
    "fastapi",
    "uvicorn",
    "prometheus_client",
    "numpy",
    "safetensors",
    "tokenizers",
    "ctranslate2",
    "cachetools",
    "platformdirs",
)
"""Modules that the service needs and the connector doesn't."""

INSTALL = (
    "Install the extra `course` of nvrerank-helpers: in a clone of the project  make setup  does it, "
    "or  pip install '.[course]'  (which brings torch with it, unlike the lock)."
)
"""What to do when a module is missing."""


class StandInError(RerankError):
    """The stand-in cannot start, or another service was taken for it."""

    hint = "Run  python -m nvrerank_helpers.nim_standin --port 0  in a terminal to see what it says."


def check_installed() -> None:
    """Raise a `StandInError` if a module that the service needs is missing; import none of them."""
    missing = [name for name in REQUIRED_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise StandInError(
            f"The stand-in service needs parts that are not installed: {', '.join(missing)}.", hint=INSTALL
        )


class StandIn:
    """A running stand-in service on the loopback interface.

    It ends with `close`, at the end of a `with` block, and when the interpreter ends or is killed: the child holds the
    reading end of a pipe from its parent and stops when that pipe closes. Interrupting a notebook cell does not
    reach it.

    Args:
        *options: Options of the command line, which `python -m nvrerank_helpers.nim_standin --help` lists. The port is
            a free one unless `--port` is among them.
        timeout: Seconds to wait until the service can rank.
        wait: False returns as soon as the service listens. It then loads in the background, as a NIM does that was
            just started.

    Raises:
        StandInError: A part is not installed, the port is taken, or the model did not load in time.

    Example:
        >>> with StandIn("--behaviour=catalog", wait=False) as standin:
        ...     standin.base_url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(self, *options: str, timeout: float = 60, wait: bool = True) -> None:
        check_installed()
        early = () if wait else ("--announce=listening",)
        command = [sys.executable, "-m", "nvrerank_helpers.nim_standin", "--stop-at-eof", "--port=0", *early, *options]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = _start(command, self._errors)
        atexit.register(self.close)
        try:
            self.base_url = self._read_address(READY if wait else LISTENING, timeout)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the service."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the service still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the service; closing twice does no harm."""
        atexit.unregister(self.close)
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=GRACE_SECONDS + 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_address(self, words: str, timeout: float) -> str:
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read_line, args=(self._process.stdout, lines), daemon=True).start()
        try:
            line = lines.get(timeout=timeout)
        except queue.Empty:
            raise StandInError(f"The stand-in was not ready after {timeout:g} s. {self._last_words()}") from None
        if not line.startswith(words):
            raise StandInError(f"The stand-in could not start. {self._last_words()}")
        return line.removeprefix(words).strip()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-2000:]


def _start(command: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[str]:
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=Path(__file__).parents[2],
        **apart,
    )


def _read_line(stream: IO[str], lines: "queue.SimpleQueue[str]") -> None:
    lines.put(stream.readline())
