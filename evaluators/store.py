"""Figures kept from one run to the next, in one file. Knows kinds, keys, ages and bytes; not their meaning.

Losing it costs time only: a file that cannot be read or written is left alone, and everything is computed anew.
"""

import logging
import math
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.cache import cache_folder

logger = logging.getLogger(__name__)

FILE_NAME = "figures.sqlite"
QUALITY, LATENCY = "quality", "latency"
_PATIENCE_S = 5.0  # while another process writes
_TABLE = "CREATE TABLE IF NOT EXISTS figures (kind TEXT, key TEXT, made REAL, content BLOB, PRIMARY KEY (kind, key))"


@dataclass(frozen=True)
class Held:
    """What the store holds of one kind: entries, their bytes, and when the oldest and the newest were made."""

    entries: int
    bytes: int
    oldest: float
    newest: float


@dataclass(frozen=True)
class Store:
    """Entries by kind and key. Pickles, and is opened anew at every use: processes and nodes may share the file.

    Args:
        path: of the file; that of this machine's user if None, looked up where the store is used.
        clock: seconds since the epoch.
    """

    path: Path | None = None
    clock: Callable[[], float] = time.time

    def get(self, kind: str, key: str, max_age: float | None = None) -> bytes | None:
        """An entry that is at most so many seconds old; None where there is none."""
        since = -math.inf if max_age is None else self.clock() - max_age
        rows = self._ask("SELECT content FROM figures WHERE kind = ? AND key = ? AND made >= ?", kind, key, since)
        return rows[0][0] if rows else None

    def put(self, kind: str, key: str, content: bytes) -> None:
        """Keep an entry; an older one of the same key goes."""
        self._ask("INSERT OR REPLACE INTO figures VALUES (?, ?, ?, ?)", kind, key, self.clock(), content)

    def held(self) -> dict[str, Held]:
        """What there is, by kind."""
        rows = self._ask("SELECT kind, COUNT(*), SUM(LENGTH(content)), MIN(made), MAX(made) FROM figures GROUP BY kind")
        return {kind: Held(*figures) for kind, *figures in rows}

    def clear(self, kind: str | None = None) -> int:
        """Forget everything, or one kind; how many entries went."""
        gone = self._ask("SELECT COUNT(*) FROM figures WHERE ? IS NULL OR kind = ?", kind, kind)
        self._ask("DELETE FROM figures WHERE ? IS NULL OR kind = ?", kind, kind)
        return gone[0][0] if gone else 0

    @property
    def file(self) -> Path:
        """Where the entries are."""
        return self.path or cache_folder() / FILE_NAME

    def _ask(self, statement: str, *values: object) -> list[Any]:
        """The rows that a statement answers; none where the file cannot be used."""
        try:
            with closing(sqlite3.connect(self.file, timeout=_PATIENCE_S)) as file, file:
                file.execute(_TABLE)
                return file.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            logger.warning(
                "%s cannot be used (%s); nothing is taken from it. Delete it to start anew.", self.file, error
            )
            return []
