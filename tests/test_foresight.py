"""What is known before a member runs agrees with what is found when it does."""

import random

import pytest

from evaluators.foresight import TransformerForesight
from evaluators.transformer import Workload
from spaces.axes.attention import AttentionAxis, forget_absent_attention
from spaces.axes.pruning import Importance, PruningAxis, UnitCosts
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.design import Design
from spaces.space import Space
from tests.tiny_models import tiny
from tests.tiny_workload import tiny_rows, tiny_workload


@pytest.fixture(scope="module")
def work() -> Workload:
    return tiny_workload(tiny("bert")[0], {"search": tiny_rows(0, 8)}, kinds=("hard@4",))


@pytest.fixture(scope="module")
def importance(work: Workload) -> Importance:
    shape, rng = work.template.shape, random.Random(0)
    layers = range(shape.layers)
    return Importance(
        heads=tuple(tuple(rng.random() for _ in range(shape.heads)) for _ in layers),
        neurons=tuple(tuple(rng.random() for _ in range(shape.ffn)) for _ in layers),
        layers=tuple(rng.random() for _ in layers),
    )


@pytest.fixture(scope="module")
def space(work: Workload, importance: Importance) -> Space:
    shape = work.template.shape
    pruning = PruningAxis(shape, importance, UnitCosts(0.1, 0.01), ffn_group=8)
    axes = [pruning, QuantizationAxis(shape, work.runtime.bits), AttentionAxis(shape, ("hard@4",))]
    return Space(axes, [forget_absent_parts, forget_absent_attention])


@pytest.fixture(scope="module")
def foresight(work: Workload, importance: Importance, space: Space) -> TransformerForesight:
    rng = random.Random(1)
    members = [space.decode(design) for design in (*space.seeds(), *(space.sample(rng) for _ in range(24)))]
    return TransformerForesight.fitted(work, importance, {"0.ffn": 0.1}, members)


def test_speeds_are_the_latency_models_and_bytes_nearly_the_files(
    work: Workload, space: Space, foresight: TransformerForesight
) -> None:
    rng = random.Random(2)
    for _ in range(20):
        member = space.decode(space.sample(rng))
        figures = foresight.foresee(member).figures
        assert {name: figures[name] for name in work.speeds(member)} == work.speeds(member)
        assert figures["size"] == pytest.approx(
            work.template.size(member), rel=0.1
        )  # of so small a model, half is the graph


def test_members_that_answer_differently_differ_in_their_features(
    space: Space, foresight: TransformerForesight
) -> None:
    whole = dict(space.identity())
    changes = [
        {},
        {"prune.cut": 0.5},
        {"prune.depth": 1},
        {"bits.level": 8},
        {"bits.level": 8, "bits.shift.0.ffn": 1.0},
        {"bits.embeddings": 4},
        {"bits.head": 8},
        {"attention.1": "hard@4"},
    ]
    features = [foresight.foresee(space.decode(Design({**whole, **change}))).features for change in changes]
    assert len(set(features)) == len(changes)
    assert len({len(each) for each in features}) == 1


def test_the_more_goes_the_larger_the_damage_that_is_foreseen(space: Space, foresight: TransformerForesight) -> None:
    whole = dict(space.identity())
    cuts = [foresight.foresee(space.decode(Design({**whole, "prune.cut": cut}))) for cut in (0.0, 0.2, 0.5, 0.9)]
    damage = [each.features[0] for each in cuts]
    assert damage == sorted(damage)
    assert damage[0] < damage[-1]
