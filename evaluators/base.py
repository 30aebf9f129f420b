"""Jobs, and the contracts of those who do them. Knows no model: search sees nothing else of this package."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces.design import Member, content_key
from spaces.objectives import Evaluation, Failed, Objective
from spaces.target import Target


@dataclass(frozen=True)
class Race:
    """What a member has to beat, so that its evaluation can end early.

    Args:
        objectives: the run's but for the divergence.
        rivals: of each member to beat its divergence in nats, and its costs by those objectives.
    """

    objectives: tuple[Objective, ...]
    rivals: tuple[tuple[float, tuple[float, ...]], ...]

    def least(self, figures: Mapping[str, float]) -> float:
        """The least divergence among the rivals that are as good in everything else; infinite where there are none."""
        costs = [objective.cost(figures[objective.name]) for objective in self.objectives]
        better = [kl for kl, own in self.rivals if all(theirs <= ours for theirs, ours in zip(own, costs, strict=True))]
        return min(better, default=math.inf)


@dataclass(frozen=True)
class Score:
    """Assemble `member` and score it on the first `rows` rows of a split (all of them if None).

    With a `race`, ever more rows are looked at, and the evaluation is Stopped once the member has surely lost.
    """

    member: Member
    rows: int | None = None
    split: str = "search"
    race: Race | None = None

    @property
    def key(self) -> str:
        return self.member.key


@dataclass(frozen=True)
class Verify:
    """Load the exported artefact in `folder` and score it on whole splits; `member` says what it should be."""

    member: Member
    folder: Path
    splits: tuple[str, ...] = ("search", "confirm")

    @property
    def key(self) -> str:
        return content_key({"member": self.member.key, "splits": list(self.splits)})


@dataclass(frozen=True)
class VerifyCascade:
    """Load the exported cascade `name` in `folder` and score it on whole splits."""

    name: str
    folder: Path
    splits: tuple[str, ...] = ("search", "confirm")

    @property
    def key(self) -> str:
        return content_key({"cascade": self.name, "splits": list(self.splits)})


RECOVERED = "recovered:"


def trained(key: str, epochs: int) -> str:
    """Id of the weights that come of training the member `key`: known before, and the same of any original."""
    return RECOVERED + content_key({"train": key, "epochs": epochs})


@dataclass(frozen=True)
class Train:
    """Cut `member` out of its weights and distil it from the original; what training changed is kept as `weights`."""

    member: Member
    epochs: int

    @property
    def key(self) -> str:
        return trained(self.member.key, self.epochs).removeprefix(RECOVERED)

    @property
    def weights(self) -> str:
        """Id of the weights that come out."""
        return trained(self.member.key, self.epochs)


Job: TypeAlias = Score | Verify | VerifyCascade | Train

# Nats by which the losses of two graphs that compute the same may differ.
ROUNDING = 1e-6
# Told how far a stage has come: its name, what is done, and what there is to do (0: not known).
Watch: TypeAlias = Callable[[str, int, int], None]


class Evaluator(Protocol):
    """Turns jobs into figures. Never changes what it was given, and can be used again afterwards."""

    def evaluate(self, job: Job) -> Evaluation: ...


@dataclass(frozen=True)
class Foresight:
    """What is known of a member without running it.

    Args:
        figures: those objectives that can be predicted, in their units.
        features: what the others depend on, as numbers; as many for every member.
        expected: first guesses at some of the others.
    """

    figures: Mapping[str, float]
    features: tuple[float, ...]
    expected: Mapping[str, float] = field(default_factory=dict)


class Foreseer(Protocol):
    """Says what is known of a member without running it, in about a millisecond."""

    def foresee(self, member: Member) -> Foresight: ...


class Builder(Protocol):
    """Writes a member as a folder that runs without this project."""

    def build(self, member: Member, folder: Path) -> None: ...


@dataclass(frozen=True)
class Guard:
    """What a limit on answers counts on one split (evaluators/metrics/guards.py).

    Args:
        losses: by group of rows, per row 1 where something is lost, -1 where it is won, else 0; of
            `calibration_rise` what the row adds to it.
        value: the largest mean over a group, with its 95 % interval (low, high).
        group: that group.
    """

    losses: Mapping[str, tuple[float, ...]]
    value: float
    low: float
    high: float
    group: str


@dataclass(frozen=True)
class Accuracy:
    """The task's metric on one split, and what is lost against `fair` on the same rows.

    Args:
        value: the metric as a fraction, with its 95 % interval (low, high) over `n` rows.
        drop: fair's figure minus this one, paired, with its 95 % interval.
        collapsed: the model answers every row alike.
        losses: per row, what `fair` scores minus what this model scores (1, 0 or -1 where a row is right or wrong).
        guards: what further limits on answers count, by name.
    """

    value: float
    low: float
    high: float
    n: int
    drop: float
    drop_low: float
    drop_high: float
    collapsed: bool
    losses: tuple[float, ...]
    guards: Mapping[str, Guard] = field(default_factory=dict)

    @property
    def discordance(self) -> float:
        """Mean squared loss of a row; where each is right or wrong, the share of rows on which exactly one of the two
        is right."""
        return sum(loss * loss for loss in self.losses) / self.n


@dataclass(frozen=True)
class Band:
    """Mean latency in ms of the calls whose longest input has so many `tokens` (first and last length), and the
    speed-up over each baseline on them as (estimate, low, high)."""

    tokens: tuple[int, int]
    calls: int
    mean_ms: float
    speedup: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Timing:
    """Latency in ms over the fixed inputs, the speed-up over each baseline as (estimate, low, high), each input's own
    latency, in their order, and what the mean is for short and for long ones."""

    mean_ms: float
    p50_ms: float
    p95_ms: float
    rounds: int
    processes: int
    speedup: Mapping[str, tuple[float, float, float]]
    per_call_ms: tuple[float, ...] = ()
    bands: tuple[Band, ...] = ()

    def scaled(self, times: float) -> "Timing":
        """The same where everything takes `times` as long; speed-ups are ratios and stay."""
        return replace(
            self,
            mean_ms=self.mean_ms * times,
            p50_ms=self.p50_ms * times,
            p95_ms=self.p95_ms * times,
            per_call_ms=tuple(ms * times for ms in self.per_call_ms),
            bands=tuple(replace(band, mean_ms=band.mean_ms * times) for band in self.bands),
        )


@dataclass(frozen=True)
class StageTimings:
    """Latency of single models as stages of cascades, all measured beside each other.

    Args:
        fair: of the baseline `fair`.
        asking_ms: what a cascade adds to a call of its first stage.
        later: by name, each call right after one of another model.
    """

    fair: Timing
    asking_ms: float
    later: Mapping[str, Timing]


@dataclass(frozen=True)
class Served:
    """Rows per second of the whole machine, tokenised beforehand, and how often those of `fair` as (estimate, low,
    high)."""

    rows_per_second: float
    instances: int
    batch_size: int
    over_fair: tuple[float, float, float]


@dataclass(frozen=True)
class Remeasured:
    """An exported model on a machine that did not search it.

    Args:
        timing: its latency there.
        accuracy: of its answers there, on the confirm rows.
        agreement: share of the search rows answered as search scored them; None where nothing was kept of that.
    """

    timing: Timing
    accuracy: Accuracy
    agreement: float | None


@dataclass(frozen=True)
class Judgement:
    """How sure a model is of its answers, and whether it is right to be: what cascades are chosen by.

    Args:
        temperature: of its softmax, fitted on the calibration rows.
        confidence: by split, per row the largest probability.
        right: by split, per row whether the answer is right.
    """

    temperature: float
    confidence: Mapping[str, NDArray[np.float64]]
    right: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Baseline:
    """A model to compare with: its folder, its predictions on the confirm rows, and what it is in a few words."""

    folder: Path
    predictions: bytes
    what: str


class Assessor(Builder, Protocol):
    """Measures exported folders: the only way in which search sees accuracy, time and bytes."""

    def baselines(self, watch: Watch) -> Mapping[str, Baseline]:
        """The baselines of every report, built and scored."""
        ...

    def accuracy(self, split: str, predictions: bytes) -> Accuracy:
        """Figures of logits on a split."""
        ...

    def losses(self, split: str, predictions: bytes) -> tuple[float, ...]:
        """Those of `accuracy` alone, which cost less."""
        ...

    def predicted(self, member: Member) -> tuple[Mapping[str, float], int]:
        """Latency in ms by target, and bytes, as they were predicted before the member was timed."""
        ...

    def expected(self, member: Member) -> Mapping[str, tuple[float, float, float]]:
        """Latency in ms by target with the ends of its interval, from all that was timed."""
        ...

    def learn(self, target: Target, timed: Sequence[tuple[Member, float]]) -> None:
        """Refine what is expected at a target by members and their latency over that of `fair`."""
        ...

    def vocabulary(self, member: Member) -> Mapping[str, float]:
        """What a smaller vocabulary does to texts and bytes, by name; empty where a member has all of it."""
        ...

    def agreement(self, split: str, left: bytes, right: bytes) -> float:
        """Share of the rows that both have on which the predicted class is equal."""
        ...

    def time(
        self, folders: Mapping[str, Path], watch: Watch, target: Target | None = None, times: int = 1
    ) -> Mapping[str, Timing]:
        """Latency at a target, the first if None, of every folder and of the baselines, which alternate with them in
        fresh processes; in so many `times` as many rounds as usual."""
        ...

    def time_stages(self, folders: Mapping[str, Path], watch: Watch) -> StageTimings:
        """Latency of two or more single models as cascades have it; the first of them is most often a first stage."""
        ...

    def throughput(self, folders: Mapping[str, Path], watch: Watch) -> Mapping[str, Served]:
        """Rows per second of every folder with the whole machine to itself."""
        ...

    @property
    def timed_rows(self) -> tuple[int, ...]:
        """Which of the search rows are timed, in order."""
        ...

    def judged(self, predictions: bytes) -> Judgement:
        """From logits on calibration and search."""
        ...

    def judged_baseline(self, name: str) -> Judgement:
        """The same of the baselines `fair` and `linear`."""
        ...

    def build_cascade(
        self, folder: Path, sources: Sequence[Path], stages: Sequence[tuple[float, float | None]]
    ) -> None:
        """`folder` with a cascade of exported folders, each with its temperature and threshold (None: the last)."""
        ...

    def cascade_agreement(
        self, split: str, stages: Sequence[tuple[bytes, float, float | None]], answers: bytes
    ) -> float:
        """Share of rows on which a cascade answers what its stages' logits on that split say it should."""
        ...

    def sizes(self, folder: Path) -> tuple[int, int]:
        """Bytes needed for inference, and bytes of the tokenizer."""
        ...


@dataclass
class Memoised:
    """An evaluator that does no job twice; failures are tried again."""

    inner: Evaluator

    def __post_init__(self) -> None:
        self._done: dict[Job, Evaluation] = {}

    def evaluate(self, job: Job) -> Evaluation:
        if job not in self._done:
            evaluation = self.inner.evaluate(job)
            if isinstance(evaluation.outcome, Failed):
                return evaluation
            self._done[job] = evaluation
        return self._done[job]


@dataclass(frozen=True)
class Retried:
    """An evaluator that tries a failed job again, `attempts` times in all."""

    inner: Evaluator
    attempts: int = 2

    def evaluate(self, job: Job) -> Evaluation:
        evaluation, attempt = self.inner.evaluate(job), 1
        while isinstance(evaluation.outcome, Failed) and attempt < self.attempts:
            evaluation, attempt = self.inner.evaluate(job), attempt + 1
        return replace(evaluation, attempts=attempt)
