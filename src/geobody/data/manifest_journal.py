"""A journal of hashes beside a manifest: what has been hashed survives a kill, and is not hashed again.

An SQLite file, so that memory does not grow with the data set. A file counts as the same while its size and
its time of change are; `geobody manifest --verify` trusts neither.
"""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from geobody.errors import DataError

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS folders (id INTEGER PRIMARY KEY, path TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS hashes (
    folder INTEGER, name TEXT, bytes INTEGER, time_ns INTEGER, sha256 BLOB, PRIMARY KEY (folder, name)
) WITHOUT ROWID;
"""
_COMMIT_SECONDS: Final = 1.0
_PRIMARY_CODE: Final = 0xFF
"""Bits of SQLite's error codes that are not details."""
_ANOTHER_ENDS: Final = "let the other geobody manifest end first"
_REMOVE: Final = "remove the file: the hashes are made again"
_CURES: Final = {
    sqlite3.SQLITE_FULL: "free some space and run this again: what was hashed is kept",
    sqlite3.SQLITE_BUSY: _ANOTHER_ENDS,
    sqlite3.SQLITE_LOCKED: _ANOTHER_ENDS,
    sqlite3.SQLITE_CORRUPT: _REMOVE,
    sqlite3.SQLITE_NOTADB: _REMOVE,
}
"""Hours of hashing may be in the file: to remove it is the cure for damage alone."""

State = tuple[str, int, int]
"""(name, bytes, time of change in ns) of a file."""


class Journal:
    """Hashes by folder and file state; what is added is on disk about a second later, and at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = time.monotonic()

    def __enter__(self) -> "Journal":
        try:
            self._db = sqlite3.connect(self._path)
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):  # what was not kept is hashed again
            self._db.commit()
        self._db.close()

    def known(self, folder: str) -> dict[State, str]:
        """SHA-256 of the folder's files by their states when they were hashed."""
        query = """SELECT name, bytes, time_ns, sha256 FROM hashes
                   WHERE folder = (SELECT id FROM folders WHERE path = ?)"""
        try:
            return {(name, size, ns): sha.hex() for name, size, ns, sha in self._db.execute(query, (folder,))}
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def add(self, folder: str, hashed: Iterable[tuple[State, str]]) -> None:
        """Keeps the hashes of files of a folder."""
        try:
            self._db.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (folder,))
            number = self._db.execute("SELECT id FROM folders WHERE path = ?", (folder,)).fetchone()[0]
            rows = [(number, *state, bytes.fromhex(sha)) for state, sha in hashed]
            self._db.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", rows)
            if time.monotonic() - self._last > _COMMIT_SECONDS:
                self._db.commit()
                self._last = time.monotonic()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> DataError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
        cure = _CURES.get(code, "mend that and run this again: what was hashed is kept")
        return DataError(self._path, f"cannot be used as a journal ({error})", cure)
