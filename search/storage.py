"""Where a run's studies are kept. Knows files, URLs and names of studies; knows nothing of what trials mean."""

import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from spaces.errors import RunError
from spaces.objectives import Bound, Objective

JOURNAL = "study.log"
# A write takes milliseconds; a lock this old was left by a driver that was killed.
_LOCK_SECONDS = 5


class _Journal(JournalFileBackend):
    """A journal file that survives killed drivers and does not wait for the disk at every line.

    Optuna would append to a torn last line and make the journal unreadable, so that is cut off before the first write;
    whole lines are never touched. It would also sync after each of a trial's dozens of lines; `sync` does so once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = False
        self._mutex = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
        super().__init__(str(path), lock_obj=self._mutex)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._mutex.acquire()
        try:
            with self._path.open("rb+", buffering=0) as file:
                if not self._whole:
                    file.truncate(file.read().rfind(b"\n") + 1)
                    self._whole = True
                _append_whole(file, lines)
        finally:
            self._mutex.release()

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())


def _append_whole(file: FileIO, content: bytes) -> None:
    """All of it or, on a full disk, nothing."""
    end, left = file.seek(0, os.SEEK_END), memoryview(content)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        file.truncate(end)
        raise


class Place:
    """The studies of one run in one storage.

    Args:
        folder: the run's folder.
        storage: an Optuna URL or a journal's path; `study.log` in the folder if None.
        study: name of the encoding; under other limits it goes on as `study-2`, `study-3`, ...
    """

    def __init__(self, folder: Path, storage: str | None, study: str) -> None:
        self.folder = folder
        self._where = storage or str(folder / JOURNAL)
        # Runs that share a storage must not share names of studies.
        self._prefix = f"{folder.resolve().name}/" if storage else ""
        self.study = study
        self._journal: _Journal | None = None

    def holds(self) -> bool:
        """Whether the run's first study is there; looks without making a file."""
        if _is_path(self._where) and not Path(self._where).is_file():
            return False
        return bool(self._rounds())

    def own(self) -> list[str]:
        """Short names of this encoding's studies."""
        return [self.short(name) for name in self._rounds().values()]

    def short(self, name: str) -> str:
        """A study's name without the run's."""
        return name.removeprefix(self._prefix)

    def create(self, objectives: Sequence[Objective], bounds: Sequence[Bound]) -> optuna.Study:
        """The next study of this encoding; the first one if there is none."""
        rounds = self._rounds()
        name = f"{self._prefix}{self.study}" + (f"-{max(rounds) + 1}" if rounds else "")
        new = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=["minimize" if objective.goal == "min" else "maximize" for objective in objectives],
        )
        new.set_user_attr("objectives", [asdict(objective) for objective in objectives])
        new.set_user_attr("bounds", [asdict(bound) for bound in bounds])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            new.set_metric_names([objective.name for objective in objectives])
        return new

    def load(self) -> list[optuna.Study]:
        """All studies of the run, the newest of this encoding last.

        Raises:
            RunError: there are none, or they cannot be read.
        """
        if not self.holds():
            raise RunError(
                f"{self.folder} is not a run: {self._where} has no study {self._prefix}{self.study}. "
                "Give the folder that search wrote with --out."
            )
        rounds = self._rounds()
        others = [name for name in self._names() if name not in rounds.values()]
        return [
            optuna.load_study(study_name=name, storage=self._storage)
            for name in (*others, *(rounds[number] for number in sorted(rounds)))
        ]

    def sync(self) -> None:
        """Make everything written so far survive a loss of power; a database does that by itself."""
        if self._journal is not None:
            self._journal.sync()

    def _rounds(self) -> dict[int, str]:
        """Names of this encoding's studies by their number."""
        pattern = re.compile(re.escape(self._prefix + self.study) + r"(?:-(\d+))?")
        matches = [match for name in self._names() if (match := pattern.fullmatch(name))]
        return {int(match[1] or 1): match[0] for match in matches}

    def _names(self) -> list[str]:
        return [name for name in optuna.get_all_study_names(self._storage) if name.startswith(self._prefix)]

    @cached_property
    def _storage(self) -> BaseStorage:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            if _is_path(self._where):
                Path(self._where).parent.mkdir(parents=True, exist_ok=True)
                self._journal = _Journal(Path(self._where))
                return JournalStorage(self._journal)
            return optuna.storages.get_storage(self._where)
        # A damaged file, a missing driver, a server that is down: each library has its own exception for it.
        except Exception as error:
            raise RunError(
                f"{self._where} cannot be opened as an Optuna storage: {error!r}. Check the path or URL."
            ) from error


def _is_path(where: str) -> bool:
    return "://" not in where
