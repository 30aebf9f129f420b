"""What is known before a member runs agrees with what is found when it does."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.base import Score
from evaluators.damage import Damage, Varied, damage
from evaluators.foresight import TransformerForesight
from evaluators.transformer import TransformerEvaluator, Workload
from spaces.axes.attention import AttentionAxis, forget_absent_attention
from spaces.axes.pruning import Importance, LayerUnits, Pruning, PruningAxis, UnitCosts
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.design import Design, Member
from spaces.knobs import Scalar
from spaces.objectives import Complete
from spaces.shape import ModelShape
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
def foresight(
    work: Workload, importance: Importance, space: Space, tmp_path_factory: pytest.TempPathFactory
) -> TransformerForesight:
    rng = random.Random(1)
    members = [space.decode(design) for design in (*space.seeds(), *(space.sample(rng) for _ in range(24)))]
    path = tmp_path_factory.mktemp("damage") / "damage.json"
    varied = Varied(bits=(8, 4), embeddings=(8, 4), kinds=("hard@4",))
    return TransformerForesight.fitted(
        work, damage(work, importance, varied, path, lambda stage, done, total: None), members
    )


def test_speeds_are_the_latency_models_and_bytes_nearly_the_files(
    work: Workload, space: Space, foresight: TransformerForesight
) -> None:
    rng = random.Random(2)
    for _ in range(20):
        member = space.decode(space.sample(rng))
        figures = foresight.foresee(member).figures
        assert {name: figures[name] for name in work.speeds(member)} == work.speeds(member)
        # Of so small a model, half is the graph.
        assert figures["size"] == pytest.approx(work.template.size(member), rel=0.1)


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


def test_the_divergence_of_one_part_is_foreseen_as_it_is(
    work: Workload, space: Space, foresight: TransformerForesight
) -> None:
    whole, evaluator = dict(space.identity()), TransformerEvaluator(work)
    for change in ({}, {"bits.embeddings": 4}, {"bits.head": 8}, {"attention.1": "hard@4"}, {"bits.shift.0.ffn": -1.0}):
        member = space.decode(Design({**whole, **change}))
        outcome = evaluator.evaluate(Score(member)).outcome
        assert isinstance(outcome, Complete)
        assert foresight.foresee(member).expected["kl"] == pytest.approx(outcome.values["kl"], abs=1e-6)


def test_parts_add_up(space: Space, foresight: TransformerForesight) -> None:
    whole = dict(space.identity())
    changes = [{"bits.embeddings": 4}, {"bits.head": 8}, {"attention.1": "hard@4"}, {"bits.shift.0.ffn": -1.0}]

    def expected(change: dict[str, Scalar]) -> float:
        return foresight.foresee(space.decode(Design({**whole, **change}))).expected["kl"]

    together = {name: value for change in changes for name, value in change.items()}
    assert expected(together) == pytest.approx(sum(map(expected, changes)))


class TestDamage:
    def parts(self, heads: int, neurons: int = 8) -> float:
        shape = ModelShape(layers=1, heads=4, head_size=2, ffn=8, hidden=8, vocab=30)
        alone = {"0.attention 0.0": 0.3, "0.attention 0.25": 0.2, "0.attention 0.5": 0.1, "0.ffn 0.0": 0.05}
        cut = Pruning((LayerUnits(tuple(range(heads)), tuple(range(neurons))),))
        return sum(Damage(alone, "").parts(Member((cut,)), shape))

    @pytest.mark.parametrize(("heads", "expected"), [(4, 0.0), (3, 0.05), (2, 0.1), (1, 0.2), (0, 0.3)])
    def test_between_the_shares_that_were_measured_it_is_interpolated(self, heads: int, expected: float) -> None:
        assert self.parts(heads) == pytest.approx(expected)

    def test_a_block_that_is_gone_is_a_case_of_its_own(self) -> None:
        assert self.parts(4, neurons=0) == pytest.approx(0.05)

    def test_what_is_known_of_the_same_model_is_not_measured_again(
        self, work: Workload, importance: Importance, tmp_path: Path
    ) -> None:
        told = list[int]()

        def measured(work: Workload, varied: Varied) -> Damage:
            return damage(
                work, importance, varied, tmp_path / "damage.json", lambda stage, done, total: told.append(total)
            )

        first = measured(work, Varied(bits=(8,)))
        assert len(told) == told[0] == len(first.alone)
        told.clear()
        assert measured(work, Varied(bits=(8,))) == first
        assert told == []
        assert measured(work, Varied(bits=(8, 4))).alone.items() > first.alone.items()
        assert "0.ffn 8" not in measured(replace(work, origin="other"), Varied()).alone
