"""The only search loop: ask, submit, record, tell. Knows contracts and clocks; knows nothing of models or storages."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

from evaluators.base import Race, Score
from search.ledger import Trial
from search.record import Record
from search.runners.base import Runner
from search.samplers.base import Sampler
from spaces.design import Design
from spaces.objectives import Evaluation
from spaces.space import Space

# trials.csv is at most this old while a search runs.
_CSV_SECONDS = 5.0


class Meter:
    """What may still be spent: designs of the whole run, seconds of this session.

    Args:
        trials: designs in a final state, those of earlier sessions included.
        seconds: wall time after which nothing is started; None: no end.
        clock: seconds.
    """

    def __init__(self, trials: int, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.trials = trials
        self.seconds = seconds
        self.clock = clock
        self._begin = clock()
        self._used = 0

    def use(self, designs: int = 1) -> None:
        """Count designs that are finished or started."""
        self._used += designs

    @property
    def left(self) -> int:
        """Designs that may still be started; 0 when the time is over."""
        over = self.seconds is not None and self.clock() - self._begin >= self.seconds
        return 0 if over else max(0, self.trials - self._used)

    @property
    def seconds_left(self) -> float | None:
        """Wall time until nothing more is started; None: no end."""
        return None if self.seconds is None else max(0.0, self.seconds - (self.clock() - self._begin))


@dataclass(frozen=True)
class Progress:
    """How far a search has come.

    Args:
        done: designs in a final state, earlier sessions included.
        failed: how many of them failed.
        stopped: how many of them lost their race.
        duplicates: proposals thrown away unevaluated.
        total: designs in all.
        running: designs at work.
        seconds: of this session so far.
        rate: designs per second in this session.
        eta_seconds: until the end.
        workers: designs that are evaluated at once.
        worker_busy_share: the workers' seconds in evaluations over the seconds they had.
        last: the trial that ended last.
    """

    done: int
    failed: int
    stopped: int
    duplicates: int
    total: int
    running: int
    seconds: float
    rate: float
    eta_seconds: float
    workers: int
    worker_busy_share: float
    last: Trial


@dataclass(frozen=True)
class Summary:
    """What a session of the loop came to.

    Args:
        done: designs in a final state, earlier sessions included.
        failed: how many of them failed.
        duplicates: proposals thrown away unevaluated.
        evaluated: designs that this session evaluated; those whose scores were known do not count.
        seconds: that it took.
        designs_per_second: `evaluated` over `seconds`.
        worker_busy_share: the workers' seconds in evaluations over the seconds they had.
    """

    done: int
    failed: int
    duplicates: int
    evaluated: int
    seconds: float
    designs_per_second: float
    worker_busy_share: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


Watch: TypeAlias = Callable[[Progress], None]
Races: TypeAlias = Callable[[], Race | None]


def run(
    space: Space,
    sampler: Sampler,
    runner: Runner,
    record: Record,
    *,
    rows: int | None,
    meter: Meter,
    race: Races = lambda: None,
    watch: Watch = lambda progress: None,
) -> Summary:
    """Search until the meter is empty or the sampler has nothing left to propose.

    Trials that a dead driver left running are submitted again first, under their own numbers.

    Args:
        space: decodes designs.
        sampler: proposes them.
        runner: evaluates them.
        record: keeps them.
        rows: of the search split per evaluation; None: all.
        meter: what may be spent.
        race: says what the next design has to beat; None: every design is looked at on all rows.
        watch: told after every trial.

    Raises:
        KeyboardInterrupt: passed on once everything that is finished has been recorded.
    """
    session = _Session(space, sampler, runner, record, rows, meter, race)
    try:
        while session.fill():
            watch(session.collect())
    except KeyboardInterrupt:
        session.rescue()
        raise
    finally:
        record.abandon()
        record.write_csv()
    return session.summary()


class _Session:
    """The state of one call of `run`."""

    def __init__(
        self,
        space: Space,
        sampler: Sampler,
        runner: Runner,
        record: Record,
        rows: int | None,
        meter: Meter,
        race: Races,
    ) -> None:
        self._space = space
        self._sampler = sampler
        self._runner = runner
        self._record = record
        self._rows = rows
        self._meter = meter
        self._race = race
        finished = record.finished()
        self._done = len(finished)
        self._failed = sum(trial.state == "failed" for trial in finished)
        self._stopped = sum(trial.state == "stopped" for trial in finished)
        self._ended = 0
        self._evaluated = 0
        self._worked = 0.0
        self._begin = self._written = meter.clock()
        self._running: dict[str, int] = {}
        self._waiting = [(space.member(trial.decoded, trial.weights), trial.number) for trial in record.interrupted()]
        self._ahead: Design | None = None
        self._in_hand: Evaluation | None = None
        meter.use(self._done + len(self._waiting))

    def fill(self) -> bool:
        """Start as many designs as there are free slots, and ask one ahead; whether anything runs."""
        while len(self._running) < self._runner.slots and self._start_next():
            pass
        # The sampler thinks while the workers work.
        if self._running and self._ahead is None and self._meter.left:
            self._ahead = self._sampler.ask()
        return bool(self._running)

    def collect(self) -> Progress:
        """Wait for an evaluation, record it and tell the sampler."""
        evaluation = self._runner.next_done()
        assert evaluation is not None, "fill() said that something runs"
        # Kept in sight until it is recorded: an interrupt may come at any line.
        self._in_hand = evaluation
        trial = self._keep(evaluation)
        self._in_hand = None
        self._sampler.tell(evaluation)
        self._write_now_and_then()
        return self._progress(trial)

    def rescue(self) -> None:
        """Record what is finished already; what still runs stays running in the record."""
        if self._in_hand is not None and self._in_hand.key in self._unfinished():
            self._keep(self._in_hand)
        while (evaluation := self._runner.next_done(timeout=0)) is not None:
            self._keep(evaluation)

    def summary(self) -> Summary:
        seconds = self._seconds()
        return Summary(
            done=self._done,
            failed=self._failed,
            duplicates=self._record.duplicates,
            evaluated=self._evaluated,
            seconds=seconds,
            designs_per_second=self._evaluated / seconds,
            worker_busy_share=self._worked / (self._runner.slots * seconds),
        )

    def _start_next(self) -> bool:
        """Start what a dead driver left, else a new design; False if there is none to start now."""
        if self._waiting:
            member, number = self._waiting.pop(0)
        else:
            design = self._next_design() if self._meter.left else None
            if design is None:
                return False
            member = self._space.decode(design)
            number = self._record.start(design, member)
            self._meter.use()
        assert member.key not in self._running, f"The sampler proposed {member.key} twice."
        self._running[member.key] = number
        self._runner.submit(Score(member, self._rows, race=self._race()))
        return True

    def _next_design(self) -> Design | None:
        if self._ahead is None:
            return self._sampler.ask()
        design, self._ahead = self._ahead, None
        return design

    def _keep(self, evaluation: Evaluation) -> Trial:
        trial = self._record.finish(self._running[evaluation.key], evaluation)
        del self._running[evaluation.key]
        self._done += 1
        self._ended += 1
        self._evaluated += evaluation.attempts > 0  # one that was looked up took none
        self._failed += trial.state == "failed"
        self._stopped += trial.state == "stopped"
        self._worked += evaluation.seconds
        return trial

    def _unfinished(self) -> set[str]:
        return {trial.key for trial in self._record.interrupted()}

    def _write_now_and_then(self) -> None:
        if self._meter.clock() - self._written >= _CSV_SECONDS:
            self._record.write_csv()
            self._written = self._meter.clock()

    def _seconds(self) -> float:
        return max(self._meter.clock() - self._begin, 1e-9)

    def _progress(self, trial: Trial) -> Progress:
        now = self.summary()
        ends = [end for end in (self._meter.seconds_left,) if end is not None]
        by_rate = max(0, self._meter.trials - self._done) * now.seconds / self._ended
        return Progress(
            done=self._done,
            failed=self._failed,
            stopped=self._stopped,
            duplicates=now.duplicates,
            total=self._meter.trials,
            running=len(self._running),
            seconds=now.seconds,
            rate=now.designs_per_second,
            eta_seconds=min([by_rate, *ends]),
            workers=self._runner.slots,
            worker_busy_share=now.worker_busy_share,
            last=trial,
        )
