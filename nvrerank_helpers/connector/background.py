"""The event loop in a background thread on which the requests of this process run.

One loop serves sync and async callers alike. A deadline is then one `asyncio.timeout` for every kind of call: what it
ends is cancelled and its connection closed, which is impossible with a thread that waits in a socket. Connections
outlive `asyncio.run`, and all threads share one pool.
"""

import asyncio
import atexit
import concurrent.futures
import contextvars
import ctypes
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, ParamSpec, TypeVar

from .errors import ServiceUnreachable

P = ParamSpec("P")
T = TypeVar("T")

MOST_HANGING = 64  # threads of one kind that may go on after their callers have gone, until no more are started
EXIT_WAIT = 1.0  # seconds that closing connections may delay the end of the process


class BackgroundLoop:
    """An event loop that runs in a daemon thread until the process ends, and closes what was opened on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_DaemonExecutor())  # which looks up host names
        self.opened: dict[object, Callable[[], Awaitable[None]]] = {}
        self._thread = threading.Thread(target=self._serve, name="rerank", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # as when the interpreter is shutting down
            self.loop.close()
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    async def close(self, opened: object) -> None:
        """Close one of the things that were opened on this loop, if it still is open."""
        if closes := self.opened.pop(opened, None):
            await closes()

    def stop(self) -> None:
        """Close everything and end the thread; called when the process ends."""
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._close_all(), self.loop).result(EXIT_WAIT)
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(EXIT_WAIT)

    async def _close_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for opened in list(self.opened):
            await self.close(opened)


_lock = threading.Lock()
_current: BackgroundLoop | None = None
_inherited: list[BackgroundLoop] = []


def background() -> BackgroundLoop:
    """Return the loop of this process; the first call starts it."""
    global _current  # noqa: PLW0603 (one per process is the point)
    with _lock:
        if _current is None:
            try:
                _current = BackgroundLoop()
            except RuntimeError as error:
                raise ServiceUnreachable(f"No thread for requests can be started: {error}") from None
        return _current


def run(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function on the loop and wait for it; an interrupt cancels it."""
    loop = background().loop
    future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def arun(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function on the loop and await it from another one; the async twin of `run`."""
    loop = background().loop
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop))


def _forget() -> None:
    """Begin anew after a fork: the thread is gone, and what the parent shares must be neither used nor closed here."""
    global _current, _lock
    if _current:
        _inherited.append(_current)
    _current, _lock = None, threading.Lock()
    _Job.lock, _Job.hanging = threading.Lock(), Counter()


def _stop() -> None:
    global _current
    ended, _current = _current, None
    if ended:
        ended.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_stop)


class _Job:
    """One call in a separate daemon thread."""

    lock = threading.Lock()
    hanging: ClassVar[Counter[str]] = Counter()  # calls by kind that go on although nobody waits for them any more

    def __init__(self, function: Callable[[], Any], kind: str = "") -> None:
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._function, self._kind = function, kind
        self._is_over = self._is_abandoned = False
        self._thread = threading.Thread(target=self._work, name="rerank-call", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        self.future.set_running_or_notify_cancel()
        result, error = None, None
        try:
            result = self._function()
        except Exception as raised:  # noqa: BLE001 (it is raised where the call was made)
            error = raised
        except BaseException as raised:  # noqa: BLE001 (raised there, it would end the loop)
            error = RuntimeError(f"the call ended with {type(raised).__name__}")
        with _Job.lock:
            self._is_over = True
            _Job.hanging[self._kind] -= self._is_abandoned
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)

    def abandon(self) -> None:
        """Count a call that goes on although nobody waits for it any more."""
        with _Job.lock:
            if not self._is_over:
                self._is_abandoned = True
                _Job.hanging[self._kind] += 1

    def interrupt(self) -> None:
        """End the thread, if it still runs, as soon as it runs Python again.

        A server that drips would hold it forever, and no public way leads from an HTTP client to the socket on which
        a call of it waits. Any other call has ended by the client's own timeout by now, so that none is hit while it
        holds a lock of the client.
        """
        with _Job.lock:
            if not self._is_over and self._thread.ident:
                thread = ctypes.c_ulong(self._thread.ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))


class _DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """Runs each call in a daemon thread: one that hangs delays neither the others nor the end of the process."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Start the call."""
        return _Job(lambda: fn(*args, **kwargs)).future


async def run_in_thread(function: Callable[[], T], kind: str, interrupt_after: float | None = None) -> T:
    """Run a blocking function in a daemon thread, which goes on where the caller is cancelled.

    Args:
        function: What to run.
        kind: What hangs is counted by this name.
        interrupt_after: Seconds after which an abandoned thread is told to end; None lets it be.

    Raises:
        RuntimeError: Too many calls of this kind still hang.
    """
    if _Job.hanging[kind] >= MOST_HANGING:
        raise RuntimeError(f"{MOST_HANGING} earlier calls of {kind} still hang, although their time was over")
    context = contextvars.copy_context()
    job = _Job(lambda: context.run(function), kind)
    try:
        result: T = await asyncio.wrap_future(job.future)
    except asyncio.CancelledError:
        job.abandon()
        if interrupt_after is not None:
            asyncio.get_running_loop().call_later(interrupt_after, job.interrupt)
        raise
    return result
