"""Samplers to compare with: what an expert would do instead of this project's search. Know foresight; evaluate nothing.

Programming (what ModelOpt and ZipLM do): one knapsack over blocks for every budget, quality the sum of what parts cost
alone. Evolution (EvoPress, Sieberling et al. 2024): at each of a few budgets, offspring that trade one block's level
for another's. Both propose designs of the flat space.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from flat_space import SHARES

from evaluators.base import Foreseer
from search.record import Record
from spaces.design import Design
from spaces.knobs import Choice, Scalar
from spaces.objectives import Evaluation
from spaces.space import Space

_BINS = 300
# Weights of latency against bytes in the cost that a budget bounds.
_WEIGHTS = (1.0, 0.5, 0.0)
# Of the original's cost: budgets from hard to easy.
_LOWEST, _HIGHEST = 0.08, 0.8
_BUDGETS, _OFFSPRING = 6, 4


class Listed:
    """Proposes the designs of an iterator, no member twice."""

    def __init__(self, space: Space, designs: Iterator[Design]) -> None:
        self._space = space
        self._designs = designs
        self._asked: set[str] = set()

    def ask(self) -> Design | None:
        for design in self._designs:
            key = self._space.decode(design).key
            if key not in self._asked:
                self._asked.add(key)
                return design
        return None

    def tell(self, evaluation: Evaluation) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class _Option:
    """A block's cut and width, with what it costs and does alone."""

    knobs: Mapping[str, Scalar]
    cost: float
    damage: float


@dataclass(frozen=True)
class Blocks:
    """The flat space's blocks, and what designs cost by one weight of latency against bytes."""

    space: Space
    foreseer: Foreseer
    weight: float

    def cost(self, design: Mapping[str, Scalar]) -> float:
        """Weighted latency and bytes over the original's."""
        figures = self.foreseer.foresee(self.space.decode(Design(design))).figures
        shares = {name: figures[name] / self._original[name] for name in ("latency", "size")}
        return self.weight * shares["latency"] + (1 - self.weight) * shares["size"]

    @cached_property
    def _original(self) -> Mapping[str, float]:
        return self.foreseer.foresee(self.space.decode(self.space.identity())).figures

    def options(self) -> list[list[_Option]]:
        """By block; costs are differences to the original's with narrow tables."""
        start = {**self.space.identity(), **self.tables()}
        base = self.cost(start)
        found = []
        for name in (name for name in self.space.knobs if name.startswith(("heads.", "neurons."))):
            part, _, layer = name.partition(".")
            bits = f"bits.{layer}.{'attention' if part == 'heads' else 'ffn'}"
            widths = self.space.knobs[bits]
            assert isinstance(widths, Choice)
            options = []
            for share in SHARES:
                for width in widths.values if share else widths.values[:1]:
                    knobs = {name: share, bits: width}
                    design = {**start, **knobs}
                    alone = self.foreseer.foresee(self.space.decode(Design(design))).expected["kl"]
                    options.append(_Option(knobs, self.cost(design) - base, alone))
            found.append(options)
        return found

    def tables(self) -> dict[str, Scalar]:
        """The narrowest tables: they cost little quality."""
        narrow = {}
        for name in ("bits.embeddings", "bits.head"):
            knob = self.space.knobs[name]
            assert isinstance(knob, Choice)
            narrow[name] = knob.values[-1]
        return narrow


def programmed(space: Space, foreseer: Foreseer, designs: int) -> Iterator[Design]:
    """The identity, then for every weight and budget the design of least damage that costs at most so much."""
    yield space.identity()
    count = -(-designs // len(_WEIGHTS))
    budgets = [_LOWEST * (_HIGHEST / _LOWEST) ** (step / (count - 1)) for step in range(count)]
    solved = []
    for weight in _WEIGHTS:
        blocks = Blocks(space, foreseer, weight)
        options, start = blocks.options(), {**space.identity(), **blocks.tables()}
        base = blocks.cost(start)
        for budget in budgets:
            chosen = _knapsack(options, budget - base)
            if chosen is not None:
                solved.append(Design({**start, **chosen}))
    random.Random(0).shuffle(solved)  # any first part of them is spread over weights and budgets
    yield from solved


def _knapsack(options: list[list[_Option]], budget: float) -> dict[str, Scalar] | None:
    """One option per block, of least damage in all, whose costs add up to at most `budget`; None if none do."""
    least = [min(option.cost for option in block) for block in options]
    room = budget - sum(least)
    if room < 0:
        return None
    step = room / _BINS or 1.0
    best: list[tuple[float, dict[str, Scalar]]] = [(0.0, {})] * (_BINS + 1)
    for block, lowest in zip(options, least, strict=True):
        best = [
            min(
                (
                    (best[used - bins][0] + option.damage, {**best[used - bins][1], **option.knobs})
                    for option in block
                    if (bins := -int(-(option.cost - lowest) // step)) <= used
                ),
                key=lambda pair: pair[0],
            )
            for used in range(_BINS + 1)
        ]
    return best[-1][1]


class Evolved:
    """Evolution at a few budgets in turn; arguments as for the project's samplers."""

    def __init__(self, record: Record, space: Space, foreseer: Foreseer, seed: int) -> None:
        self._record = record
        self._space = space
        self._rng = random.Random(seed)
        self._blocks = Blocks(space, foreseer, 0.5)
        self._options = self._blocks.options()
        self._start = {**space.identity(), **self._blocks.tables()}
        base = self._blocks.cost(self._start)
        self._budgets = [_LOWEST * (_HIGHEST / _LOWEST) ** (step / (_BUDGETS - 1)) - base for step in range(_BUDGETS)]
        self._parents: list[list[_Option] | None] = [None] * _BUDGETS
        self._born: dict[str, tuple[int, list[_Option]]] = {}
        self._found: dict[int, list[tuple[float, list[_Option]]]] = {}
        self._turn = -1

    def ask(self) -> Design | None:
        self._turn += 1
        if self._turn == 0:
            return self._space.identity()
        place = (self._turn - 1) // _OFFSPRING % _BUDGETS
        for _ in range(200):
            options = self._offspring(place)
            design = Design({**self._start, **{name: value for each in options for name, value in each.knobs.items()}})
            key = self._space.decode(design).key
            if not self._record.knows(key) and key not in self._born:
                self._born[key] = place, options
                return design
        return None

    def tell(self, evaluation: Evaluation) -> None:
        place, options = self._born.get(evaluation.key, (None, None))
        if place is None or options is None:
            return
        trial = self._record.trial(self._record.ended[-1])
        family = self._found.setdefault(place, [])
        family.append((trial.values["kl"], options))
        self._parents[place] = min(family, key=lambda pair: pair[0])[1]

    def _offspring(self, place: int) -> list[_Option]:
        """The parent with levels of some blocks traded, within the budget; a random choice where there is no parent."""
        parent = self._parents[place]
        options = [self._rng.choice(block) for block in self._options] if parent is None else list(parent)
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            block = self._rng.randrange(len(options))
            options[block] = self._rng.choice(self._options[block])
        while sum(option.cost for option in options) > self._budgets[place]:
            block = self._rng.randrange(len(options))
            cheaper = [each for each in self._options[block] if each.cost < options[block].cost]
            if cheaper:
                options[block] = max(cheaper, key=lambda each: each.cost)
        return options
