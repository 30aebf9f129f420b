"""New designs from good ones. Knows knobs; knows nothing of what they cost."""

import random
from collections.abc import Mapping

from spaces.design import Design
from spaces.knobs import Choice, FloatRange, IntRange, Knob, Scalar

MOST_CHANGES = 3
# A step along a range goes at most this share of it.
_REACH = 0.2
# As many children have knobs drawn anew: small steps do not cross a plateau, and what is no other member is no step.
_ANEW = 0.25


def neighbour(design: Design, knobs: Mapping[str, Knob], rng: random.Random) -> Design:
    """`design` with one to three knobs changed, ranges by small steps."""
    return Design({**design, **{name: _moved(knobs[name], design[name], rng) for name in _chosen(knobs, rng)}})


def child(left: Design, right: Design, knobs: Mapping[str, Knob], rng: random.Random) -> Design:
    """A neighbour of a cross of two designs, or such a cross with one to three knobs drawn anew."""
    cross = crossed(left, right, rng)
    if rng.random() >= _ANEW:
        return neighbour(cross, knobs, rng)
    return Design({**cross, **{name: knobs[name].sample(rng) for name in _chosen(knobs, rng)}})


def crossed(left: Design, right: Design, rng: random.Random) -> Design:
    """Every knob from one of two designs of the same space (uniform crossover, Syswerda 1989)."""
    return Design({name: rng.choice((left, right))[name] for name in left})


def _chosen(knobs: Mapping[str, Knob], rng: random.Random) -> list[str]:
    """One to three that can be changed."""
    movable = sorted(name for name, knob in knobs.items() if not _is_fixed(knob))
    return rng.sample(movable, min(len(movable), rng.randint(1, MOST_CHANGES)))


def _is_fixed(knob: Knob) -> bool:
    if isinstance(knob, Choice):
        return len(knob.values) == 1
    return isinstance(knob, IntRange | FloatRange) and knob.low == knob.high


def _moved(knob: Knob, value: Scalar, rng: random.Random) -> Scalar:
    if isinstance(knob, Choice):
        return rng.choice([other for other in knob.values if other != value])
    if isinstance(knob, IntRange):
        step = rng.choice((-1, 1)) * rng.randint(1, max(1, round(_REACH * (knob.high - knob.low))))
        return min(max(int(value) + step, knob.low), knob.high)
    if isinstance(knob, FloatRange):
        reach = max(knob.step or 0.0, _REACH * (knob.high - knob.low))
        return knob.nearest(float(value) + rng.uniform(-reach, reach))
    return knob.sample(rng)
