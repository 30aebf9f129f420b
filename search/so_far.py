"""A run that is not finished, as far as it has come. Knows its record; changes nothing in it."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from search.config import RunConfig, read_yaml
from search.front_file import FrontFile
from search.members import unverified
from search.record import Record
from search.verify import search_front
from spaces.errors import RunError
from spaces.whole import write_whole

CONFIG = "config.resolved.yaml"
PID = "driver.pid"


def write_config(folder: Path, config: RunConfig, labels: Sequence[str]) -> RunConfig:
    """Keep a run's resolved configuration, and with it the targets that are described in files, by these labels.

    Returns:
        The same configuration, which reads the kept files from now on.
    """
    # All are read before any is written: some may be the run's own, in another order.
    files = [None if each.profile is None else Path(each.profile).read_bytes() for each in config.target]
    kept = []
    for number, (target, label, content) in enumerate(zip(config.target, labels, files, strict=True)):
        name = None if content is None else f"targets/{number}.json"
        if name is not None and content is not None:
            write_whole(folder / name, content)
        kept.append(target.model_copy(update={"label": label, "profile": name}))
    write_whole(folder / CONFIG, config.model_copy(update={"target": tuple(kept)}).to_yaml())
    return read_config(folder)


def read_config(folder: Path) -> RunConfig:
    """A run's resolved configuration.

    Raises:
        RunError: the folder is not a run.
    """
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run: it has no {CONFIG}. Give the folder that `search --out` wrote.")
    config = RunConfig.parse(read_yaml(folder / CONFIG))
    targets = (
        each if each.profile is None else each.model_copy(update={"profile": str(folder / each.profile)})
        for each in config.target
    )
    return config.model_copy(update={"target": tuple(targets)})


def front_so_far(folder: Path) -> FrontFile:
    """The front of the search's own figures; no member of it is verified.

    Raises:
        RunError: the folder is not a run, or has no trial yet.
    """
    config = read_config(folder)
    record = Record.open(folder, storage=config.search.storage)
    return FrontFile(
        run=folder.name,
        seed=config.search.seed,
        targets=tuple({"label": target.label or "here"} for target in config.target),
        limits={limit.name: limit.asked for limit in config.limits.limits()},
        metric=config.task.judged_by,
        confidence=config.confidence,
        trials=record.counts(),
        members=tuple(unverified(trial) for trial in search_front(record)),
    )


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Marks the run as being worked on by this process.

    Raises:
        RunError: another process is at it.
    """
    if is_running(folder):
        raise RunError(
            f"Another process is working on {folder} ({(folder / PID).read_text()}). Wait for it, or stop it."
        )
    (folder / PID).write_text(_me())
    try:
        yield
    finally:
        (folder / PID).unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether the process that marked the run lives; one on another host is taken to live."""
    if not (folder / PID).exists():
        return False
    host, _, pid = (folder / PID).read_text().rpartition(":")
    if host != platform.node():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return int(pid) != os.getpid()


def _me() -> str:
    return f"{platform.node()}:{os.getpid()}"
