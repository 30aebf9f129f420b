"""The published recipes as walks over a run's model. Knows their encodings and settings; knows no evaluators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from search.config import RunConfig
from search.names import RECIPES
from search.samplers import axformer, significance
from search.samplers.greedy import Change
from search.samplers.walk import Walk
from spaces.axes.attention import AttentionAxis
from spaces.axes.pruning import Importance, UnitPruningAxis
from spaces.axes.quantization import QuantizationAxis
from spaces.design import Design, Member
from spaces.shape import ModelShape
from spaces.space import Axis, Space


@dataclass(frozen=True)
class Recipe:
    """A walk, and what it walks over.

    Args:
        axes: its encoding of pruning, quantization and attention.
        walk: begins it, at the original's design.
        most: designs it asks for at most.
        afterwards: changes of its outcome that it looks at last.
    """

    axes: tuple[Axis, ...]
    walk: Callable[[Design], Walk]
    most: int
    afterwards: tuple[Change, ...] = ()

    def outcome(self, space: Space, settled: Design) -> list[Member]:
        """The member that the walk settled on, and what it looked at last."""
        designs = [settled, *(Design({**settled, **change}) for change in self.afterwards)]
        members = [space.decode(design) for design in designs]
        return list({member.key: member for member in members}.values())


def is_recipe(config: RunConfig) -> bool:
    """Whether the sampler is a walk with an encoding and a study of its own."""
    return config.search.sampler in RECIPES


def study(config: RunConfig) -> str:
    """Names the recipe's walk in the record: each rule and goal has its own."""
    literal = ".literal" if config.axformer.literal else ""
    return {"axformer": f"axformer{literal}", "significance": f"significance.{config.significance.goal}"}[
        config.search.sampler
    ]


def confirming(config: RunConfig) -> frozenset[str]:
    """Studies whose outcome counts only if it is no less accurate than the original on the confirm rows."""
    return frozenset({"significance.accurate", *(["axformer"] if config.axformer.confirm else [])})


def recipe(
    config: RunConfig,
    shape: ModelShape,
    importance: Importance,
    quantization: QuantizationAxis,
    longest: int,
) -> Recipe:
    """The recipe that the configuration names.

    Args:
        config: of the run.
        shape: the model's sizes.
        importance: rankings from the calibration split.
        quantization: the run's own axis of widths.
        longest: tokens of the longest row that is scored.
    """
    if config.search.sampler == "axformer":
        return _axformer(config, shape, importance, quantization, longest)
    return _significance(config, shape, importance, quantization)


def _axformer(
    config: RunConfig, shape: ModelShape, importance: Importance, quantization: QuantizationAxis, longest: int
) -> Recipe:
    asked = config.axformer
    settings = axformer.AxformerSettings(**asked.model_dump(exclude={"groups", "confirm", "refit"}))
    groups = _groups(shape, asked.groups, None if asked.literal else importance)
    afterwards = _narrower(quantization)
    return Recipe(
        (UnitPruningAxis(shape, groups), quantization, AttentionAxis(shape, (f"hard@{asked.k}",))),
        partial(
            axformer.walk, shape=shape, settings=settings, groups=len(groups[0]), longest=longest, afterwards=afterwards
        ),
        most=1 + shape.layers * (3 + len(groups[0]) + shape.heads) + len(afterwards),
        afterwards=afterwards,
    )


def _significance(
    config: RunConfig, shape: ModelShape, importance: Importance, quantization: QuantizationAxis
) -> Recipe:
    asked = config.significance
    settings = significance.SignificanceSettings(**asked.model_dump(exclude={"groups"}))
    groups, narrow = _groups(shape, asked.groups, importance), _narrower(quantization)
    return Recipe(
        (UnitPruningAxis(shape, groups), quantization, AttentionAxis(shape, (f"sign@{asked.k}",))),
        partial(significance.walk, shape=shape, settings=settings, groups=len(groups[0]), narrow=narrow),
        most=1 + len(narrow) + shape.layers * (2 + len(groups[0]) + shape.heads + 3),
    )


def _groups(shape: ModelShape, count: int, importance: Importance | None) -> list[Sequence[Sequence[int]]]:
    """Per layer the neurons in so many groups of equal size: as they lie, or the most important ones together."""
    size = -(-shape.ffn // min(count, shape.ffn))
    if importance is not None:
        return [importance.groups(layer, size) for layer in range(shape.layers)]
    return [[range(start, min(start + size, shape.ffn)) for start in range(0, shape.ffn, size)]] * shape.layers


def _narrower(quantization: QuantizationAxis) -> tuple[Change, ...]:
    """The rung one width below the widest, then the same with the narrowest tables; none where there is one width."""
    rungs = [rung for rung in quantization.ladder() if rung != quantization.neutral()]
    return tuple(rung for rung in rungs if rung["bits.level"] == rungs[0]["bits.level"])
