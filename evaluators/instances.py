"""Several instances of one model on a whole machine: answers in order, and rows per second.

Knows rows, batches and clocks; knows nothing of processes (pool.py) or of kinds of models (instance_worker.py).
"""

import json
import math
import random
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from evaluators.answers import Prediction, predictions, problem_in
from evaluators.cores import usable_instances
from evaluators.instance_worker import is_checkpoint, load
from evaluators.pool import Pool, Setup, Task
from evaluators.tasks.base import Text
from spaces.errors import ModelError

Instances: TypeAlias = int | Literal["auto"]
Clock: TypeAlias = Callable[[], float]

BATCH_SIZES = (1, 8, 32)  # tried where the batch is free

# Rows per task: enough that handing tasks out costs nothing beside answering them; a task of several batches is
# sorted once more, by tokens. Windows are what is sorted by letters: answers appear window by window.
_ROWS, _BATCHED_ROWS, _WINDOW_TASKS = 32, 128, 8
_TUNING_SECONDS = 1.0


@dataclass(frozen=True)
class Throughput:
    """Rows per second of one contender that has the machine to itself; handing rows out and collecting their logits in
    one process is included.

    Args:
        instances: processes.
        threads: of each.
        batch_size: rows per call.
        samples: by round, for rows tokenised beforehand: the figure.
        text_samples: by round, tokenising included.
    """

    instances: int
    threads: int
    batch_size: int
    samples: tuple[float, ...] = field(repr=False)
    text_samples: tuple[float, ...] = field(repr=False)

    @property
    def rows_per_second(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        """The slowest round's."""
        return min(self.samples)

    @property
    def high(self) -> float:
        """The fastest round's."""
        return max(self.samples)

    @property
    def text_rows_per_second(self) -> float:
        """Median over the rounds, tokenising included."""
        return statistics.median(self.text_samples)

    def ratio(self, base: "Throughput", seed: int, resamples: int = 2000) -> tuple[float, float, float]:
        """How many times the rows of `base` this answers, with a 95 % percentile bootstrap interval over the rounds.

        Raises:
            ValueError: the two were not measured in the same rounds.
        """
        if len(base.samples) != len(self.samples):
            raise ValueError(f"{len(self.samples)} and {len(base.samples)} rounds do not pair. Measure both together.")
        drawn = np.random.default_rng(seed).integers(len(self.samples), size=(resamples, len(self.samples)))
        ours, theirs = (np.median(np.asarray(each.samples)[drawn], axis=1) for each in (self, base))
        low, high = np.quantile(ours / theirs, (0.025, 0.975))
        return self.rows_per_second / base.rows_per_second, float(low), float(high)

    def to_json(self, base: "Throughput", seed: int) -> dict[str, Any]:
        """Figures, samples and the ratio to `base`."""
        figures = {name: getattr(self, name) for name in ("rows_per_second", "low", "high", "text_rows_per_second")}
        return {**figures, "ratio": list(self.ratio(base, seed)), **asdict(self)}


def predict(
    folder: Path, texts: Iterable[Text], *, instances: Instances | None = None, threads: int = 1, batch_size: int = 1
) -> Generator[Prediction, None, None]:
    """One prediction per text, in order, while `texts` is being read: only a few windows of it are held.

    Batches do not depend on the number of instances, so neither do the answers.

    Args:
        folder: an exported model.
        texts: any number of them.
        instances: processes; None: this one.
        threads: that each may use.
        batch_size: rows per call; with several, rows of like length go together.

    Raises:
        ModelError: the folder holds no exported model.
        ParetoformerError: rows that ended several instances in a row, or could not be answered.
    """
    if is_checkpoint(folder):
        raise ModelError(f"{folder} is a checkpoint, not an exported model: it has no design.json. Search from it.")
    setup, work, problem = Setup(str(folder), threads), tasks(texts, batch_size), _problem(folder)
    if instances is None:
        model = load(setup)
        logits = ((task, model.of_texts(task.texts or (), batch_size)) for task in work)
        yield from _in_order((task, predictions(found, model.classes, problem)) for task, found in logits)
        return
    with Pool(setup, count(instances, threads)) as pool:
        yield from _in_order((task, predictions(found, pool.classes, problem)) for task, found in pool.run(work))


def _problem(folder: Path) -> str:
    path = folder / "design.json"
    return problem_in(json.loads(path.read_text()) if path.is_file() else {})


def tasks(texts: Iterable[Text], batch_size: int) -> Iterator[Task]:
    """The texts, numbered from 0, in tasks; with several rows per call those of like length are in one task."""
    rows = iter(enumerate(texts))
    size = _ROWS if batch_size == 1 else max(_BATCHED_ROWS, batch_size)
    window = size if batch_size == 1 else size * _WINDOW_TASKS
    while held := list(islice(rows, window)):
        if batch_size > 1:
            held.sort(key=lambda row: len(row[1]))
        for start in range(0, len(held), size):
            numbers, chosen = zip(*held[start : start + size], strict=True)
            yield Task(numbers, batch_size, chosen)


def count(instances: Instances, threads: int) -> int:
    """The number of processes: `auto` is the machine's physical cores / threads."""
    return usable_instances(threads) if instances == "auto" else instances


def crowding(instances: Instances, threads: int) -> str | None:
    """A remark where there are more instances than cores for them."""
    most, asked = usable_instances(threads), count(instances, threads)
    if asked <= most:
        return None
    return f"{asked} instances of {threads} threads take turns here: more than {most} answer no faster."


def throughput(
    folders: Mapping[str, Path],
    texts: Sequence[Text],
    *,
    instances: Instances = "auto",
    threads: int = 1,
    batch_size: int | Sequence[int] = BATCH_SIZES,
    rounds: int = 5,
    seconds: float = 3.0,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    clock: Clock = time.perf_counter,
) -> Mapping[str, Throughput]:
    """Rows per second of contenders that take turns on the whole machine. Nothing else of ours may run meanwhile.

    All instances are started and warmed up first. The best batch size is found in that warm-up, so the rounds, which
    time whole passes over the texts in an order drawn anew, do not favour a lucky one. Every round times a contender
    on rows tokenised beforehand, which its instances hold, and on texts; both times end with the last logits
    collected here. A `transformers` checkpoint takes part as it comes: one process with a thread per core, one row
    per call, the pipeline on texts and its model on tokenised rows.

    Args:
        folders: by name, exported models or checkpoints.
        texts: at least one; repeated as often as `seconds` asks.
        instances: processes per exported model.
        threads: of each.
        batch_size: rows per call, or several sizes to choose the fastest from.
        rounds: turns of each contender.
        seconds: at least so long is a contender busy in one turn.
        seed: of the order of turns.
        progress: told the steps done and in all.

    Raises:
        ModelError: a folder holds no model.
    """
    sizes, longest = (batch_size,) if isinstance(batch_size, int) else tuple(batch_size), _max_length(folders.values())
    total, rng = len(folders) * (1 + rounds), random.Random(seed)
    steps = iter(range(total))

    def step() -> None:
        if progress is not None:
            progress(next(steps), total)

    with ExitStack() as stack:
        loads = {}
        for name, folder in folders.items():
            plain = is_checkpoint(folder)
            setup = Setup(str(folder), usable_instances(1) if plain else threads, tuple(texts), longest)
            pool = stack.enter_context(Pool(setup, 1 if plain else count(instances, threads)))
            loads[name] = _Load(pool, setup, (1,) if plain else sizes, seconds, clock)
        for load_ in loads.values():
            load_.pool.start()
        for load_ in loads.values():
            step()
            load_.tune()
        for _ in range(rounds):
            for name in rng.sample(sorted(loads), len(loads)):
                step()
                loads[name].measure()
        return {name: load_.result() for name, load_ in loads.items()}


class _Load:
    """One contender under load: how it is called, and what it did."""

    def __init__(self, pool: Pool, setup: Setup, sizes: Sequence[int], seconds: float, clock: Clock) -> None:
        self.pool = pool
        self._setup, self._sizes, self._seconds, self._clock = setup, sizes, seconds, clock
        self._size = self._passes = self._text_passes = 1
        self._samples: list[float] = []
        self._text_samples: list[float] = []

    def tune(self) -> None:
        """Find the fastest batch size and how many passes fill a turn; both ways are warm afterwards."""
        rates = {size: self._rate(size, self._fitting(self._rate(size), _TUNING_SECONDS)) for size in self._sizes}
        self._size = max(rates, key=rates.__getitem__)
        self._passes = self._fitting(rates[self._size], self._seconds)
        self._text_passes = self._fitting(self._rate(self._size, text=True), self._seconds)

    def measure(self) -> None:
        """One turn: rows tokenised beforehand, then texts."""
        self._samples.append(self._rate(self._size, self._passes))
        self._text_samples.append(self._rate(self._size, self._text_passes, text=True))

    def result(self) -> Throughput:
        instances = len(self.pool.pids)
        samples = tuple(self._samples), tuple(self._text_samples)
        return Throughput(instances, self._setup.threads, self._size, *samples)

    def _fitting(self, rate: float, seconds: float) -> int:
        """Passes over the texts that take at least so long."""
        return max(1, math.ceil(rate * seconds / len(self._setup.kept)))

    def _rate(self, size: int, passes: int = 1, *, text: bool = False) -> float:
        """Rows per second over so many passes."""
        once = [task if text else replace(task, texts=None) for task in tasks(self._setup.kept, size)]
        begin = self._clock()
        rows = sum(len(logits) for _, logits in self.pool.run(chain.from_iterable(repeat(once, passes))))
        return rows / (self._clock() - begin)


def _in_order(answered: Iterable[tuple[Task, Sequence[Prediction]]]) -> Iterator[Prediction]:
    """Answers by row number, none held longer than an earlier one is missing."""
    held: dict[int, Prediction] = {}
    following = 0
    for task, answers in answered:
        held.update(zip(task.rows, answers, strict=True))
        while following in held:
            yield held.pop(following)
            following += 1


def _max_length(folders: Iterable[Path]) -> int | None:
    """Where the exported models cut texts: a checkpoint beside them is given the same tokens."""
    files = [folder / "design.json" for folder in folders]
    designs = [json.loads(file.read_text()) for file in files if file.is_file()]
    return max((int(design["max_length"]) for design in designs if "max_length" in design), default=None)
