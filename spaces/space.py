"""All designs a search may try: axes side by side, under rules. Knows knobs; knows no models."""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from spaces.design import Config, Design, Member
from spaces.errors import DesignError
from spaces.knobs import Choice, FloatRange, IntRange, Knob, Scalar


class Axis(Protocol):
    """One compression family's share of a space; `config` is the type it decodes to."""

    @property
    def config(self) -> type[Config]: ...

    @property
    def knobs(self) -> Mapping[str, Knob]: ...

    def decode(self, knobs: Mapping[str, Scalar]) -> Config: ...

    def ladder(self) -> list[dict[str, Scalar]]: ...

    def neutral(self) -> dict[str, Scalar]: ...

    def extremes(self) -> dict[str, dict[str, Scalar]]: ...


@runtime_checkable
class GradedAxis(Axis, Protocol):
    """An axis whose configs consist of parts that can be a grade lower one by one."""

    def parts(self, config: Any) -> tuple[str, ...]: ...

    def narrow(self, config: Any, parts: Collection[str]) -> Config: ...


Rule = Callable[[tuple[Config, ...]], tuple[Config, ...]]


class Space:
    """Axes under one encoding.

    Args:
        axes: one per compression family.
        rules: applied after decoding; each makes equal models equal (a removed block has no width).
        weights: id of the weights that its members use.
        families: configs that members of other encodings in the same run may have besides; a member that has one but is
            neutral in it is the same member.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        rules: Sequence[Rule] = (),
        weights: str = "finetuned",
        families: Sequence[type[Config]] = (),
    ) -> None:
        self.axes = tuple(axes)
        self._rules = tuple(rules)
        self._weights = weights
        own = {axis.config for axis in self.axes}
        self._families = tuple(family for family in families if family not in own)
        self.knobs: Mapping[str, Knob] = {name: knob for axis in self.axes for name, knob in axis.knobs.items()}
        assert len(self.knobs) == sum(len(axis.knobs) for axis in self.axes), "two axes share a knob's name"

    def check(self, design: Design) -> Design:
        """`design` itself.

        Raises:
            DesignError: a knob that is missing, unknown or out of its range.
        """
        for name in design:
            if name not in self.knobs:
                raise DesignError(f"{name} is not a knob of this space. Known knobs: {', '.join(sorted(self.knobs))}.")
        for name, knob in self.knobs.items():
            if name not in design:
                raise DesignError(f"{name} is missing from the design. Give it a value in {knob}.")
            if not knob.contains(design[name]):
                raise DesignError(f"{name}={design[name]!r} is not in {knob}. Widen the axis or change the design.")
        return design

    def sample(self, rng: random.Random) -> Design:
        """A design with every knob drawn on its own."""
        return Design({name: knob.sample(rng) for name, knob in self.knobs.items()})

    def decode(self, design: Design) -> Member:
        """What `design` means; equal members have equal keys however they are written."""
        self.check(design)
        configs = tuple(axis.decode({name: design[name] for name in axis.knobs}) for axis in self.axes)
        return Member(self._ruled(configs), self._weights)

    def member(self, decoded: Mapping[str, Any], weights: str) -> Member:
        """The member that a record holds in decoded form."""
        families = (*(axis.config for axis in self.axes), *self._families)
        return Member(tuple(family.from_decoded(decoded) for family in families), weights)

    def beside(self, member: Member, family: str) -> list[Member]:
        """Members of the same weights and config of `family`: every rung of the other axes that make a model smaller or
        faster, no model twice."""
        rungs: list[tuple[Config, ...]] = [()]
        for axis in self.axes:
            varied = axis.config.family != family and saves(axis)
            steps = [axis.decode(step) for step in axis.ladder()] if varied else [member.config(axis.config)]
            rungs = [(*rung, step) for rung in rungs for step in steps]
        members = [Member(self._ruled(configs), member.weights) for configs in rungs]
        return list({other.key: other for other in members}.values())

    def parts(self, member: Member) -> tuple[str, ...]:
        """Parts of a member that could be a grade lower, on the axes that grade parts one by one."""
        return tuple(
            part
            for axis in self.axes
            if isinstance(axis, GradedAxis)
            for part in axis.parts(member.config(axis.config))
        )

    def narrow(self, member: Member, parts: Collection[str]) -> Member:
        """The same member with each of `parts` a grade lower."""
        graded = {axis.config: axis for axis in self.axes if isinstance(axis, GradedAxis)}
        configs = tuple(
            graded[type(config)].narrow(config, parts) if type(config) in graded else config
            for config in member.configs
        )
        return Member(self._ruled(configs), member.weights)

    def identity(self) -> Design:
        """The original model as a design of this space."""
        return Design({name: value for axis in self.axes for name, value in axis.neutral().items()})

    def seeds(self) -> list[Design]:
        """Where to start, no model twice: the identity; every rung of the first axis beside every one of the second,
        the others neutral; then each other axis' rungs beside the first axis' and the second's last one."""
        neutral = {name: value for axis in self.axes for name, value in axis.neutral().items()}
        ladders = [[{**axis.neutral(), **step} for step in axis.ladder()] for axis in self.axes]
        first, second, others = ladders[0], (ladders[1:2] or [[{}]])[0], ladders[2:]
        rungs = [{**neutral, **rung, **step} for step in second for rung in first]
        rungs += [{**neutral, **rung, **second[-1], **step} for other in others for step in other for rung in first]
        unique: dict[str, Design] = {}
        for design in (self.identity(), *(Design(rung) for rung in rungs)):
            unique.setdefault(self.decode(design).key, design)
        return list(unique.values())

    def extremes(self) -> dict[str, Design]:
        """The identity and the smallest design."""
        return {
            name: Design({knob: value for axis in self.axes for knob, value in axis.extremes()[name].items()})
            for name in ("whole", "smallest")
        }

    def log10_designs(self) -> float:
        """Decimal logarithm of the number of designs (grid points of continuous knobs)."""
        return sum(math.log10(_cardinality(knob)) for knob in self.knobs.values())

    def _ruled(self, configs: tuple[Config, ...]) -> tuple[Config, ...]:
        for rule in self._rules:
            configs = rule(configs)
        return configs

    def describe(self) -> dict[str, object]:
        """Cardinality, knobs per axis and the extreme designs, for people and for --dry-run."""
        return {
            "designs": f"about 10^{self.log10_designs():.0f}",
            "knobs": {axis.config.family: len(axis.knobs) for axis in self.axes},
            "extremes": {name: dict(design) for name, design in self.extremes().items()},
        }


def saves(axis: Axis) -> bool:
    """Whether the axis knows a config that makes a model smaller or faster for sure."""
    return axis.extremes()["smallest"] != axis.neutral()


def _cardinality(knob: Knob) -> float:
    if isinstance(knob, Choice):
        return len(knob.values)
    if isinstance(knob, IntRange):
        return knob.high - knob.low + 1
    if isinstance(knob, FloatRange) and knob.step is not None:
        return round((knob.high - knob.low) / knob.step) + 1
    return 1000.0  # a real number: three digits matter
