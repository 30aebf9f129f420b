"""Optuna's samplers under the Sampler contract. Knows Optuna and the record; knows nothing of models or runners.

Optuna thinks in a study in memory that mirrors the record's ended trials: asking writes nothing, and what it costs does
not grow with the run. A proposal whose member is known already is thrown away and another one asked, so nothing is
evaluated twice; asks come in batches, which moves their cost to where the workers are busy.
"""

import importlib.util
import random as random_module
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.record import Record
from search.samplers.failing import Failing
from search.samplers.memory import REMEMBERED, Memory
from search.samplers.moves import neighbour
from search.samplers.steered import distribution, on_grid
from spaces.design import Design
from spaces.errors import ConfigError
from spaces.objectives import Evaluation
from spaces.space import Space

# Makes an Optuna sampler from a seed.
MakeSampler: TypeAlias = Callable[[int], BaseSampler]
# Proposes a design from what is known so far; None: no idea yet.
Propose: TypeAlias = Callable[[], Design | None]

BATCH = 4
# Duplicates in a row before Optuna is no longer asked, and draws after which the space counts as used up.
_DUPLICATES_IN_A_ROW = 30
_DRAWS = 1000
# Of so many designs after the seeds, all but one come from the alternative.
_ALTERNATIVES_TO_ONE = 5
# At most this share of the trials goes to seeds.
_SEED_SHARE = 1 / 3


def seed_places(trials: int) -> int:
    """At most so many of so many trials are seeds."""
    return max(1, int(_SEED_SHARE * trials))


def spread(seeds: Sequence[Design], trials: int | None) -> list[Design]:
    """The first of `seeds` and others evenly spread over them, a third of `trials` at most."""
    count = len(seeds) if trials is None else min(len(seeds), seed_places(trials))
    if count < 2:
        return list(seeds[:count])
    return [seeds[round(i * (len(seeds) - 1) / (count - 1))] for i in range(count)]


def nsga2(seed: int) -> BaseSampler:
    """NSGA-II (Deb et al. 2002); a small population, because a search has hundreds of trials, not thousands."""
    return optuna.samplers.NSGAIISampler(population_size=20, seed=seed)


def tpe(seed: int) -> BaseSampler:
    """Multivariate, multi-objective TPE (Ozaki et al. 2022); running trials count as bad ones."""
    return optuna.samplers.TPESampler(multivariate=True, seed=seed)


def gp(seed: int) -> BaseSampler:
    """A Gaussian process with constrained expected hypervolume improvement.

    Raises:
        ConfigError: greenlet is missing, which Optuna needs for it.
    """
    if importlib.util.find_spec("greenlet") is None:
        raise ConfigError("Sampler gp needs greenlet, which is not installed. Run `pip install greenlet`.")
    return optuna.samplers.GPSampler(seed=seed)


def random(seed: int) -> BaseSampler:
    """Every knob drawn on its own."""
    return optuna.samplers.RandomSampler(seed=seed)


class OptunaSampler:
    """Seeds first, then what an Optuna sampler proposes, no member twice.

    Args:
        record: takes the trials, and says which members are known.
        space: what the designs are of.
        make: the Optuna sampler, made with a seed that differs from session to session of one run.
        seeds: designs to start from, the most important first.
        seed: of everything random here.
        batch: asks at a time.
        trials: of the whole run; at most a third of them are seeds, evenly spread. None: all seeds.
        alternative: proposes four of five designs after the seeds.
        remembered: see Memory.
    """

    def __init__(
        self,
        record: Record,
        space: Space,
        make: MakeSampler,
        *,
        seeds: Sequence[Design] = (),
        seed: int,
        batch: int = BATCH,
        trials: int | None = None,
        alternative: Propose | None = None,
        remembered: int = REMEMBERED,
    ) -> None:
        self._record = record
        self._space = space
        self._alternative = alternative
        self._batch = batch
        self._seeds = iter(spread(seeds, trials))
        self._queue: deque[Design] = deque()
        self._turn = 0
        self._used_up = False
        record.abandon()
        session = seed + len(record.trials())
        self._rng = random_module.Random(session)
        distributions = {name: distribution(knob) for name, knob in space.knobs.items()}
        self._memory = Memory(record, make(session), distributions, remembered)
        self._failing = Failing(record, space.knobs)

    def ask(self) -> Design | None:
        if not self._queue and not self._used_up:
            self._queue.extend(self._proposals())
        return self._queue.popleft() if self._queue else None

    def tell(self, evaluation: Evaluation) -> None:
        """Nothing to do: memory follows the record."""

    def _proposals(self) -> Iterator[Design]:
        for _ in range(self._batch):
            design = self._next()
            if design is None:
                self._used_up = True
                return
            yield design

    def _next(self) -> Design | None:
        for seed in self._seeds:
            if self._is_new(seed):
                return self._enter(seed)
        self._turn += 1
        if self._alternative is not None and self._turn % _ALTERNATIVES_TO_ONE:
            found = self._first_new(self._alternative, _DUPLICATES_IN_A_ROW, avoid=True)
            if found is not None:
                return self._enter(found)
        return self._from_optuna() or self._drawn()

    def _from_optuna(self) -> Design | None:
        for _ in range(_DUPLICATES_IN_A_ROW):
            trial = self._memory.propose()
            design = Design({name: on_grid(self._space.knobs[name], value) for name, value in trial.params.items()})
            if not self._is_new(design):
                self._record.count_duplicate()
            elif not self._failing.holds(design):
                return self._expected(design, trial)
        return None

    def _drawn(self) -> Design | None:
        """A random design or a neighbour of a known one, in turn."""
        known = [Design(trial.knobs) for trial in self._record.trials() if trial.knobs is not None]

        def draw() -> Design:
            if known and self._rng.random() < 0.5:
                return neighbour(self._rng.choice(known), self._space.knobs, self._rng)
            return self._space.sample(self._rng)

        found = self._first_new(draw, _DRAWS, avoid=True) or self._first_new(draw, _DRAWS)
        return None if found is None else self._enter(found)

    def _first_new(self, propose: Propose, draws: int, *, avoid: bool = False) -> Design | None:
        for _ in range(draws):
            design = propose()
            if design is not None and self._is_new(design) and not (avoid and self._failing.holds(design)):
                return design
        return None

    def _is_new(self, design: Design) -> bool:
        return not self._record.knows(self._space.decode(design).key)

    def _enter(self, design: Design) -> Design:
        """Make a trial of a design that Optuna did not propose."""
        return self._expected(design, self._memory.enter(design))

    def _expected(self, design: Design, trial: FrozenTrial) -> Design:
        self._record.expect(design, self._space.decode(design), trial)
        return design
