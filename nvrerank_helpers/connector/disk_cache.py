"""A score cache in a file, for several threads and processes at once."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from .errors import CacheError
from .score_cache import CountingCache

OPENING, BUSY = 30.0, 0.5  # seconds to wait for others who write: a cache must not hold up a query
APPLICATION_ID = 0x6E765243  # "nvRC", in the header of the file, where `file` and SQLite show it


class _File(NamedTuple):
    """The open file of one process, whose threads take turns."""

    process: int
    turn: threading.Lock
    connection: sqlite3.Connection

    def close(self) -> None:
        if self.process == os.getpid():
            with self.turn:  # SQLite crashes where a connection is closed that another thread uses
                self.connection.close()


class DiskCache(CountingCache):
    """Keep scores in an SQLite file; several threads and processes may share it, on a disk of this machine.

    The file contains hashes and numbers, no texts, and nothing in it is ever executed. It survives a process that is
    killed.

    Args:
        path: The file; it is made where there is none.
        max_pairs: How many scores are kept at most, about 100 bytes each; the oldest go first.

    Raises:
        CacheError: The file is something else, or cannot be opened. Later damage is skipped with a warning.
        ValueError: `max_pairs` is less than 1.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, DiskCache(Path(folder) / "scores.sqlite") as cache:
        ...     cache.put({b"some key": 1.5})
        ...     cache.get([b"some key", b"another"]), cache.hit_rate
        ({b'some key': 1.5}, 0.5)
    """

    def __init__(self, path: str | os.PathLike[str], max_pairs: int = 1_000_000) -> None:
        super().__init__(max_pairs)
        self.path = Path(path).absolute()
        self._file = self._open(OPENING)

    def _open(self, patience: float) -> _File:
        with self._errors():
            connection = sqlite3.connect(self.path, timeout=patience, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        file = _File(os.getpid(), threading.Lock(), connection)
        weakref.finalize(self, file.close)  # which also keeps a parent's file from being closed while this one is used
        return file

    def _prepare(self, connection: sqlite3.Connection) -> None:
        header = ("schema_version", "application_id")
        used, kind = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in header)
        if used and kind != APPLICATION_ID:
            raise CacheError(f"{self.path} is an SQLite file, but no score cache.")
        with suppress(sqlite3.OperationalError):  # another process may be doing it, and then SQLite does not wait
            connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            columns = "number INTEGER PRIMARY KEY, pair BLOB NOT NULL UNIQUE, logit REAL NOT NULL"
            connection.execute(f"CREATE TABLE IF NOT EXISTS scores ({columns})")
        connection.execute(f"PRAGMA busy_timeout = {BUSY * 1000:.0f}")

    def __repr__(self) -> str:
        return f"DiskCache({str(self.path)!r}, {self.max_pairs})"

    def __reduce__(self) -> tuple[type["DiskCache"], tuple[str, int]]:
        """Pickle the path: another process opens the same file."""
        return type(self), (str(self.path), self.max_pairs)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are there; raise `CacheError` where the file cannot be read within half a second."""
        found = {}
        with self._use_connection() as connection:
            for key in keys:
                row = connection.execute("SELECT logit FROM scores WHERE pair = ?", (key,)).fetchone()
                if row:
                    found[key] = row[0]
        self.count(keys, found)
        return found

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores that are not there yet; raise `CacheError` where the file cannot be written in time."""
        with self._use_connection() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO scores (pair, logit) VALUES (?, ?)", scores.items())
            room = "DELETE FROM scores WHERE number <= (SELECT max(number) FROM scores) - ?"
            connection.execute(room, (self.max_pairs,))

    @contextmanager
    def _use_connection(self) -> Iterator[sqlite3.Connection]:
        file = self._file
        if file.process != os.getpid():  # after a fork: SQLite's connections must not be used, nor closed, in a child
            file = self._file = self._open(BUSY)
        if not file.turn.acquire(timeout=BUSY):
            hint = "Nothing, if it is seldom. Otherwise something slows down its disk."
            raise CacheError(f"The score cache {self.path} is in use by other threads", hint=hint)
        try:
            with self._errors():
                yield file.connection
        finally:
            file.turn.release()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = "Is its folder there and writable, on a disk of this machine with room? Delete a damaged file."
            raise CacheError(f"The score cache {self.path} cannot be used: {error}", hint=hint) from error

    def close(self) -> None:
        """Close the file; the cache cannot be used any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
