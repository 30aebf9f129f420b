"""Recipes that decide step by step, as samplers. Knows walks and the record; knows no recipe and no model.

A walk is a generator: it yields a design, is sent what that came to, and in the end returns the design it settled on.
"""

from collections.abc import Callable, Generator, Mapping
from typing import TypeAlias

from search.record import Record
from spaces.design import Design
from spaces.objectives import Evaluation
from spaces.space import Space

Figures: TypeAlias = Mapping[str, float]
# None is sent for a design that could not be evaluated.
Walk: TypeAlias = Generator[Design, Figures | None, Design]


class WalkSampler:
    """What a walk asks for, evaluated once.

    Every ask walks again from the start over what the record knows: that costs nothing beside an evaluation, and a
    resumed walk goes on where it stopped. Where several workers wait, the others are kept busy with what the walk would
    ask for if it refused the steps that are being evaluated; most are refused.

    Args:
        record: of this walk's study.
        space: what the designs are of.
        walk: begins the walk.
        workers: designs that may be evaluated at a time.
    """

    def __init__(self, record: Record, space: Space, walk: Callable[[], Walk], workers: int = 1) -> None:
        self._record = record
        self._space = space
        self._walk = walk
        self._workers = workers
        self._keys: dict[Design, str] = {}
        self._asked: set[str] = set()

    def ask(self) -> Design | None:
        known, running = self._known(), self._running()
        self._asked -= known.keys() | running
        if len(running) + len(self._asked) >= self._workers:
            return None
        design, _ = self._walked(known, running | self._asked)
        if design is not None:
            self._asked.add(self._key(design))
        return design

    def tell(self, evaluation: Evaluation) -> None:
        """Nothing to do: walks follow the record."""

    @property
    def result(self) -> Design | None:
        """What the walk settled on; None while it goes on."""
        return self._walked(self._known(), set())[1]

    def _walked(self, known: Mapping[str, Figures | None], asked: set[str]) -> tuple[Design | None, Design | None]:
        """The next design that is neither known nor asked, and what the walk settled on; None where there is none."""
        guessed = False
        walk = self._walk()
        try:
            design = next(walk)
            while True:
                key = self._key(design)
                if key not in known:
                    if key not in asked:
                        return design, None
                    guessed = True
                design = walk.send(known.get(key))
        except StopIteration as end:
            return None, None if guessed else end.value

    def _known(self) -> dict[str, Figures | None]:
        trials = map(self._record.trial, self._record.ended)
        return {t.key: t.figures if t.state == "complete" else None for t in trials}

    def _running(self) -> set[str]:
        return {trial.key for trial in self._record.interrupted()}

    def _key(self, design: Design) -> str:
        if design not in self._keys:
            self._keys[design] = self._space.decode(design).key
        return self._keys[design]
