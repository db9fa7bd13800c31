"""One small store on disk for what is costly to get again: judges' answers, embeddings, digests of files.

A store is one SQLite file that several processes and threads may use at a time. It is a cache: what
it cannot read is missing, what it cannot write is not kept, and both cost time and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import cache_dir

logger = logging.getLogger(__name__)

# In the header of every file of ours ("MMPx"), so that no other program's database is written to.
_APPLICATION_ID = 0x4D4D5078
_VERSION = 1
# Seconds that a write waits for another process.
_BUSY_S = 30.0
# Seconds within which a second use of an entry is not noted: reading must not mean writing.
_USE_RESOLUTION_S = 3600.0

_SCHEMA = """
CREATE TABLE entries (
    kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, sha256 BLOB NOT NULL,
    size INTEGER NOT NULL, used REAL NOT NULL, PRIMARY KEY (kind, key)
);
CREATE INDEX by_use ON entries (kind, used, size);
"""


def default_path() -> Path:
    """Return where the store is unless the user names another place: `store.sqlite` in `util.cache_dir`."""
    return cache_dir() / "store.sqlite"


class Store:
    """Values by kind and key, in one file.

    Each value is kept with the SHA-256 of kind, key and value; one that does not agree is missing.

    Parameters
    ----------
    path : path-like
        The file; it is made, with its folder, at the first write.
    max_bytes : int, optional
        Bytes that the values of one kind may take. When a write exceeds it, those of that kind that
        were unused for longest are deleted until a tenth is free. None: no bound.

    Raises
    ------
    ConfigError
        When `max_bytes` is not positive.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ConfigError(f"a store needs max_bytes above 0, not {max_bytes}")
        self.path = Path(path)
        self.max_bytes = max_bytes
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._said: set[str] = set()

    def get(self, kind: str, key: str) -> bytes | None:
        """Return a value, None where there is none that can be used.

        Parameters
        ----------
        kind : str
            Such as "verdict".
        key : str
            Any text.
        """
        if not self.path.exists():
            return None
        name = _bytes(key)
        try:
            with self._open() as connection:
                query = "SELECT value, sha256, used FROM entries WHERE kind = ? AND key = ?"
                found = connection.execute(query, (kind, name)).fetchone()
                if found is None:
                    return None
                value, digest, used = found
                if not isinstance(value, bytes) or _digest(kind, name, value) != digest:
                    self._say(f"an entry of {self.path} is damaged and counts as missing")
                    return None
                if self.max_bytes is not None and time.time() - used > _USE_RESOLUTION_S:
                    update = "UPDATE entries SET used = ? WHERE kind = ? AND key = ?"
                    with connection:
                        connection.execute(update, (time.time(), kind, name))
                return value
        except (sqlite3.Error, OSError) as error:
            self._say(f"{self.path} cannot be read ({error}); what it holds is made again")
            return None

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Keep a value, in place of one with the same kind and key.

        Parameters
        ----------
        kind, key : str
            As for `get`.
        value : bytes
            The value.
        """
        self.put_many(kind, [(key, value)])

    def put_many(self, kind: str, entries: Iterable[tuple[str, bytes]]) -> None:
        """Keep several values of a kind in one transaction: all of them, or after a failure none.

        Parameters
        ----------
        kind : str
            As for `get`.
        entries : iterable of (str, bytes)
            Keys and values.
        """
        now = time.time()
        rows = []
        for key, value in entries:
            name = _bytes(key)
            rows.append((kind, name, value, _digest(kind, name, value), len(value), now))
        try:
            with self._open() as connection, connection:
                connection.executemany("REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
                if self.max_bytes is not None:
                    self._evict(connection, kind, self.max_bytes)
        except (sqlite3.Error, OSError) as error:
            self._say(f"{self.path} cannot be written ({error}); nothing is kept")

    def problem(self) -> str | None:
        """Return why nothing can be kept here, None when a write would do.

        For callers whose values are too costly to lose: they ask before they begin.
        """
        try:
            with self._open() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            return str(error)
        return None

    def count(self, kind: str) -> int:
        """Return how many values of a kind there are; 0 where the store cannot be read."""
        if not self.path.exists():
            return 0
        try:
            with self._open() as connection:
                query = "SELECT COUNT(*) FROM entries WHERE kind = ?"
                return int(connection.execute(query, (kind,)).fetchone()[0])
        except (sqlite3.Error, OSError):
            return 0

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._process != os.getpid():  # a connection must not be used across a fork
                self._connection, self._process = None, os.getpid()
            try:
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
            except sqlite3.DatabaseError as error:
                # Malformed, or no database at all; busy, full and read-only are OperationalErrors.
                if type(error) is sqlite3.DatabaseError:
                    self._set_aside()
                raise

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level="DEFERRED", check_same_thread=False
        )
        try:
            # Survives a crash of the process, and of the machine as far as its disk does.
            connection.execute("PRAGMA synchronous = NORMAL")
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (owner, version) != (_APPLICATION_ID, _VERSION):
                self._create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        with connection:
            # Of two processes that come at the same time, the second finds the work done.
            connection.execute("BEGIN IMMEDIATE")
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (owner, version) == (_APPLICATION_ID, _VERSION):
                return
            if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                who = "another version" if owner == _APPLICATION_ID else "another program"
                raise sqlite3.OperationalError(f"it is a database of {who}")
            for statement in _SCHEMA.strip().rstrip(";").split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _set_aside(self) -> None:
        """Put a damaged store of ours out of the way, so that the next write begins a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            with open(self.path, "rb") as file:
                header = file.read(72)
        except OSError:
            return
        if header[68:72] != _APPLICATION_ID.to_bytes(4, "big"):
            return  # somebody else's file
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            os.replace(self.path, aside)
            self._say(f"{self.path} is damaged: it is now {aside.name}, and a new one is begun")
        except OSError as error:
            self._say(f"{self.path} is damaged and cannot be put aside ({error}). Delete it")

    def _evict(self, connection: sqlite3.Connection, kind: str, room: int) -> None:
        query = "SELECT COALESCE(SUM(size), 0) FROM entries WHERE kind = ?"
        total = connection.execute(query, (kind,)).fetchone()[0]
        if total <= room:
            return
        oldest = "SELECT rowid, size FROM entries WHERE kind = ? ORDER BY used, rowid"
        gone = []
        for row, size in connection.execute(oldest, (kind,)):
            gone.append((row,))
            total -= size
            if total <= room - room // 10:
                break
        connection.executemany("DELETE FROM entries WHERE rowid = ?", gone)

    def _say(self, problem: str) -> None:
        if problem not in self._said:  # once is enough
            self._said.add(problem)
            logger.warning("%s", problem)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _digest(kind: str, key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(b"\0".join((kind.encode(), key, value))).digest()
