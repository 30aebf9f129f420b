"""Reusing the hidden states of shared first layers: the same answers, fewer layers run."""

import random
from typing import Any

import numpy as np
import pytest

from evaluators.answering import PrefixReuse, Whole, prefix_key
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.onnxruntime.template import OnnxTemplate
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.base import Encoded
from spaces.axes.attention import AttentionAxis, forget_absent_attention
from spaces.axes.pruning import UnitPruningAxis
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.design import Design, Member
from spaces.space import Space
from tests.tiny_models import TEXT_FAMILIES, tiny
from tests.tiny_workload import tiny_rows


def rows_of(seed: int) -> Encoded:
    return tiny_rows(seed, 12)


def space_of(template: OnnxTemplate) -> Space:
    shape = template.shape
    groups = [[range(start, start + 16) for start in range(0, shape.ffn, 16)]] * shape.layers
    axes = [UnitPruningAxis(shape, groups), QuantizationAxis(shape, (32, 8)), AttentionAxis(shape, ("hard@4",))]
    return Space(axes, [forget_absent_parts, forget_absent_attention])


class Counting(OnnxRuntime):
    """Remembers from which layers on its members are assembled."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[int] = []

    def template(self, model: Any) -> OnnxTemplate:
        watched, starts = super().template(model), self.starts

        class Watched(OnnxTemplate):
            def assemble_from(self, member: Member, start: int) -> bytes:
                starts.append(start)
                return super().assemble_from(member, start)

        return Watched(watched.graph, watched.layers, watched.shape)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_answers_are_the_same_to_the_bit(family: str, batch_size: int) -> None:
    runtime, rows = OnnxRuntime(), rows_of(0)
    template = runtime.template(tiny(family)[0])
    space, rng = space_of(template), random.Random(0)
    whole, reused = Whole(runtime, 1, "cpu"), PrefixReuse(runtime, 1, "cpu")
    design = dict(space.identity())
    for _ in range(25):
        name = rng.choice(sorted(design))
        design[name] = space.knobs[name].sample(rng)
        member = space.decode(Design(design))
        expected = whole.open(template, member, batch_size)(rows)
        np.testing.assert_array_equal(reused.open(template, member, batch_size)(rows), expected)


def test_only_layers_from_the_changed_one_on_are_run() -> None:
    runtime = Counting()
    template = runtime.template(tiny("bert")[0])
    space, rows, reused = space_of(template), rows_of(0), PrefixReuse(runtime, 1, "cpu")
    whole = dict(space.identity())
    for change in ({}, {"ffn_block.2": 0}, {"head.2.1": 0}, {"ffn_block.1": 0}, {"ffn_block.0": 0}, {"head.2.0": 0}):
        reused.open(template, space.decode(Design({**whole, **change})), 1)(rows)
    assert runtime.starts == [0, 2, 2, 1, 0, 2]


def test_other_rows_and_batches_do_not_share_states() -> None:
    runtime = Counting()
    template = runtime.template(tiny("bert")[0])
    reused, member = PrefixReuse(runtime, 1, "cpu"), space_of(template).decode(space_of(template).identity())
    for rows, batch_size in ((rows_of(0), 1), (rows_of(1), 1), (rows_of(0), 4), (rows_of(0), 1)):
        reused.open(template, member, batch_size)(rows)
    assert runtime.starts == [0, 0, 0, 2]


def test_what_is_kept_stays_within_its_bytes() -> None:
    runtime = Counting()
    template = runtime.template(tiny("bert")[0])
    space, rows = space_of(template), rows_of(0)
    entering = sum(rows.lengths) * 32 * 4  # of one layer
    reused = PrefixReuse(runtime, 1, "cpu", most_bytes=entering)
    member = space.decode(space.identity())
    for _ in range(2):
        reused.open(template, member, 1)(rows)
    assert runtime.starts == [0, 1], "the first layers are what members share most"


def test_a_runtime_without_stages_runs_all_of_it() -> None:
    runtime, model = TorchRuntime(), tiny("bert")[0]
    template, rows = runtime.template(model), rows_of(0)
    member = Member(())
    expected = Whole(runtime, 1, "cpu").open(template, member, 4)(rows)
    np.testing.assert_array_equal(PrefixReuse(runtime, 1, "cpu").open(template, member, 4)(rows), expected)


def test_a_prefix_knows_nothing_of_later_layers_but_whether_one_attends() -> None:
    template = OnnxRuntime().template(tiny("bert")[0])
    space = space_of(template)
    whole = dict(space.identity())

    def key(layer: int, **changes: Any) -> str:
        return prefix_key(space.decode(Design({**whole, **changes})), layer)

    assert key(1) == key(1, **{"ffn_block.1": 0, "bits.head": 8})
    assert key(2) != key(2, **{"ffn_block.1": 0})
    assert key(2) != key(2, **{"attention_block.2": 0})
