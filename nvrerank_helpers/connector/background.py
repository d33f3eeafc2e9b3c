"""The event loop in a background thread on which the requests of this process run.

One loop serves sync and async callers alike. A deadline is then one `asyncio.timeout` for every kind of call: what it
ends is cancelled and its connection closed, which is impossible with a thread that waits in a socket. Connections
outlive `asyncio.run`, and all threads share one pool.
"""

import asyncio
import atexit
import concurrent.futures
import contextvars
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

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
        self.opened: set[Any] = set()  # HTTP sessions
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

    async def close(self, session: Any) -> None:
        """Close a session that was opened on this loop, if it still is open."""
        if session in self.opened:
            self.opened.remove(session)
            await session.close()

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
        for session in list(self.opened):
            await self.close(session)


_lock = threading.Lock()
_current: BackgroundLoop | None = None
_inherited: list[BackgroundLoop] = []
_hanging: defaultdict[str, set[concurrent.futures.Future[Any]]] = defaultdict(set)  # abandoned calls, by kind


def get_background_loop() -> BackgroundLoop:
    """Return the loop of this process; the first call starts it."""
    global _current  # noqa: PLW0603 (one per process is the point)
    with _lock:
        if _current is None:
            try:
                _current = BackgroundLoop()
            except RuntimeError as error:
                raise ServiceUnreachable(f"No thread for requests can be started: {error}") from None
        return _current


def run_on_loop(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function on the loop and wait for it; an interrupt cancels it."""
    loop = get_background_loop().loop
    future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def await_on_loop(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function on the loop and await it from another one; the async twin of `run_on_loop`."""
    loop = get_background_loop().loop
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop))


def _forget() -> None:
    """Begin anew after a fork: the thread is gone, and what the parent shares must be neither used nor closed here."""
    global _current, _lock
    if _current:
        _inherited.append(_current)
    _current, _lock = None, threading.Lock()
    _hanging.clear()


def _stop() -> None:
    global _current
    ended, _current = _current, None
    if ended:
        ended.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_stop)


def _start_thread(function: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Run a function in a separate daemon thread."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 (it is raised where the call was made)
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 (raised there, it would end the loop)
            future.set_exception(RuntimeError(f"the call ended with {type(error).__name__}"))
        else:
            future.set_result(result)

    future.set_running_or_notify_cancel()  # from now on it cannot be cancelled
    threading.Thread(target=work, name="rerank-call", daemon=True).start()
    return future


class _DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """Runs each call in a daemon thread: one that hangs delays neither the others nor the end of the process."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Start the call."""
        return _start_thread(partial(fn, *args, **kwargs))


async def run_in_thread(function: Callable[[], T], kind: str) -> T:
    """Run a blocking function in a daemon thread, which goes on where the caller is cancelled.

    Raises:
        RuntimeError: Too many abandoned calls of this kind still hang.
    """
    if len(_hanging[kind]) >= MOST_HANGING:
        raise RuntimeError(f"{MOST_HANGING} earlier calls of {kind} still hang, although their time was over")
    context = contextvars.copy_context()
    future = _start_thread(lambda: context.run(function))
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        _hanging[kind].add(future)
        future.add_done_callback(_hanging[kind].discard)
        raise
