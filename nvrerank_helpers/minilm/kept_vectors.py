"""Keeps vectors between runs in a SQLite file, so that the first request after a start needn't encode known texts.

The file is a cache and never gets in the way: whatever goes wrong with it, the texts are encoded again. It contains
no text. A key is a hash of a text's tokens and of everything else that its vectors depend on.
"""

import logging
import os
import sqlite3
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TypeVar

import platformdirs

VARIABLE = "NVRERANK_KEPT_VECTORS"
"""Environment variable. "0" keeps nothing; an absolute path is the folder to use in place of the user's cache."""

FILE = "vectors-1.sqlite"
"""The number changes with the format of the values."""

MOST_BYTES = 512 * 2**20
"""Largest size of the file. About 100 tokens take 77 kB."""

MOST_PENDING_BYTES = 32 * 2**20
"""Vectors waiting to be written. Beyond this they aren't kept, so a slow disk costs no memory."""

SETUP = (
    "PRAGMA page_size=8192",
    "PRAGMA journal_mode=WAL",  # readers and the writer don't wait for each other
    "PRAGMA synchronous=NORMAL",
    f"PRAGMA journal_size_limit={MOST_PENDING_BYTES}",
    "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB UNIQUE, crc INTEGER, value BLOB)",
)
SELECT = "SELECT crc, value FROM vectors WHERE key = ?"
INSERT = "INSERT OR IGNORE INTO vectors (key, crc, value) VALUES (?, ?, ?)"
DELETE_OLDEST = (
    "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT 1 + (SELECT COUNT(*) / 10 FROM vectors))"
)

logger = logging.getLogger("nvrerank_helpers.minilm")

T = TypeVar("T")


class KeptVectors:
    """Byte strings by key in a bounded file that several processes may share.

    Args:
        folder: Where the file is. Both are created on first use, for this user only.
        computed_by: Whatever the values depend on besides their keys.
        most_bytes: Largest size of the file. The oldest values make room for new ones.
    """

    def __init__(self, folder: Path, computed_by: str, most_bytes: int = MOST_BYTES) -> None:
        self.path = folder / FILE
        self._salt = blake2b(computed_by.encode(), digest_size=16).digest()
        self._most_bytes = most_bytes
        self._off = False
        self._reading, self._pending_lock = Lock(), Lock()
        self._reader: sqlite3.Connection | None = None
        self._pending: dict[bytes, bytes] = {}
        self._writer = ThreadPoolExecutor(1, "keep-vectors")  # when the process ends, it finishes what it has

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if it is unknown or damaged."""
        with self._reading:
            row = self._attempt(lambda: self._select(self._hash(key)))
        return row[1] if row and zlib.crc32(row[1]) == row[0] else None

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value soon, in another thread."""
        with self._pending_lock:
            if self._off or sum(map(len, self._pending.values())) + len(value) > MOST_PENDING_BYTES:
                return
            self._pending[self._hash(key)] = value
            if len(self._pending) == 1:  # the write that this starts takes along what comes until it begins
                with suppress(RuntimeError):  # the store is closed
                    self._writer.submit(self._attempt, self._write_pending)

    def close(self) -> None:
        """Write what is pending and close the file."""
        self._writer.shutdown()
        with self._reading:
            self._off = True
            if self._reader:
                self._reader.close()

    def _hash(self, key: bytes) -> bytes:
        return blake2b(key, digest_size=16, key=self._salt).digest()

    def _attempt(self, action: Callable[[], T]) -> T | None:
        """Run an action on the file. An error switches the store off, unless another process is only busy."""
        if self._off:
            return None
        try:
            return action()
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                self._off = True
                message = "Vectors are not kept between runs: %s. If this happens again, delete %s, or set %s=0."
                logger.warning(message, error, self.path, VARIABLE)
            return None

    def _connect(self, timeout: float) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # never opened when it exists: closing it would drop SQLite's locks on it
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # the mode of SQLite's other files
        connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            for statement in SETUP:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _select(self, key: bytes) -> tuple[int, bytes] | None:
        self._reader = self._reader or self._connect(timeout=0)
        row: tuple[int, bytes] | None = self._reader.execute(SELECT, (key,)).fetchone()
        return row

    def _write_pending(self) -> None:
        with self._pending_lock:
            batch, self._pending = self._pending, {}
        size = sum(map(len, batch.values()))
        with closing(self._connect(timeout=1)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            while _measure(connection) + size > self._most_bytes and connection.execute(DELETE_OLDEST).rowcount:
                pass
            connection.executemany(INSERT, ((key, zlib.crc32(value), value) for key, value in batch.items()))
            connection.execute("COMMIT")


def open_kept_vectors(computed_by: str) -> KeptVectors | None:
    """Return the store that the environment variable asks for, or None where nothing is to be kept."""
    asked = os.environ.get(VARIABLE) or platformdirs.user_cache_dir("nvrerank", appauthor=False)
    folder = Path(asked)
    if asked == "0" or not folder.is_absolute():  # a user without a home has no cache folder either
        return None
    return KeptVectors(folder, computed_by)


def _measure(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size
