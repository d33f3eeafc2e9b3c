"""Clients that ask at the same time, without a pause, until they are told to stop."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE = 300  # seconds; far more than anything here takes


class Load:
    """Threads that each call `ask` with their own count, again and again; what it raises is kept.

    Args:
        ask: Called with the number of the client and its count of calls; returns how many answers broke off.
        clients: How many threads.
    """

    def __init__(self, ask: Callable[[int, int], int], clients: int = 8) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.seconds: list[float] = []
        self.errors: list[Exception] = []
        self.broken_off = 0
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(clients)]

    @property
    def calls(self) -> int:
        """How many calls are over."""
        return len(self.seconds)

    def wait_for(self, calls: int) -> None:
        """Wait until so many more calls are over."""
        goal = self.calls + calls
        with self._changed:
            if not self._changed.wait_for(lambda: self.calls >= goal, PATIENCE):
                raise TimeoutError(f"{self.calls} calls are over, {goal} were waited for")

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Keep asking until something has come true; it is looked at after every few calls."""
        ends = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > ends:
                raise TimeoutError(f"not true after {self.calls} calls")
            self.wait_for(10)

    def _work(self, client: int) -> None:
        count = 0
        while not self._stop.is_set():
            began, broken_off = time.perf_counter(), 0
            try:
                broken_off = self._ask(client, count)
            except Exception as error:  # noqa: BLE001 - the test looks at every one of them
                self.errors.append(error)
            count += 1
            with self._changed:
                self.broken_off += broken_off
                self.seconds.append(time.perf_counter() - began)
                self._changed.notify_all()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
