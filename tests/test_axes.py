"""The axes of pruning, widths and vocabulary against their definitions, on random rankings."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.axes.pruning import Importance, LayerUnits, Pruning, PruningAxis, UnitCosts, UnitPruningAxis
from spaces.axes.quantization import LayerBits, Quantization, QuantizationAxis, forget_absent_parts
from spaces.axes.rare import RareAxis, RareTokens
from spaces.axes.vocabulary import Vocabulary, VocabularyAxis
from spaces.design import Member
from spaces.errors import DesignError
from spaces.knobs import Scalar
from spaces.shape import ModelShape
from tests.contracts.axis import AxisContract

SHAPE = ModelShape(layers=3, heads=4, head_size=8, ffn=24, hidden=32, vocab=100)
COSTS = UnitCosts(head=0.08, neuron=0.005)
CUTS = st.integers(0, 90).map(lambda percent: percent / 100)
SHIFTS = st.fixed_dictionaries(
    {f"prune.shift.{layer}": st.integers(-12, 12).map(lambda n: n / 4) for layer in range(SHAPE.layers)}
)
DEPTHS = st.integers(1, SHAPE.layers)


@st.composite
def importances(draw: st.DrawFn) -> Importance:
    """Rankings without ties, over nine orders of magnitude."""
    rng = random.Random(draw(st.integers(0, 2**32)))

    def figures(n: int) -> tuple[float, ...]:
        return tuple(10 ** rng.uniform(-9, 0) for _ in range(n))

    layers = range(SHAPE.layers)
    return Importance(
        tuple(figures(SHAPE.heads) for _ in layers), tuple(figures(SHAPE.ffn) for _ in layers), figures(SHAPE.layers)
    )


def make_axis(importance: Importance, *, blocks: bool = True, heads: bool = True, ffn: bool = True) -> PruningAxis:
    return PruningAxis(SHAPE, importance, COSTS, ffn_group=8, blocks=blocks, heads=heads, ffn=ffn)


def cost(pruning: Pruning) -> float:
    return sum(
        COSTS.head * len(units.heads) + COSTS.neuron * len(units.neurons)
        for units in pruning.layers
        if units is not None
    )


def kept(pruning: Pruning) -> set[tuple[int, str, int]]:
    """Everything that stays, as (layer, kind, index)."""
    layers = [(layer, units) for layer, units in enumerate(pruning.layers) if units is not None]
    return {(layer, "head", head) for layer, units in layers for head in units.heads} | {
        (layer, "neuron", neuron) for layer, units in layers for neuron in units.neurons
    }


WHOLE = cost(Pruning.identity(SHAPE))
FLAT = Importance(((1.0,) * 4,) * 3, ((1.0,) * 24,) * 3, (1.0, 2.0, 3.0))


class TestPruningAxis:
    @given(importances())
    def test_neutral_knobs_and_absent_knobs_keep_everything(self, importance: Importance) -> None:
        axis = make_axis(importance)
        assert axis.decode(axis.neutral()) == axis.decode({}) == Pruning.identity(SHAPE)

    @given(importances(), SHIFTS, DEPTHS, CUTS, CUTS)
    def test_a_larger_cut_keeps_a_part_of_what_a_smaller_one_keeps(
        self, importance: Importance, shifts: dict[str, Scalar], depth: int, a: float, b: float
    ) -> None:
        axis = make_axis(importance)
        rest: Mapping[str, Scalar] = {**shifts, "prune.depth": depth}
        less, more = (kept(axis.decode({**rest, "prune.cut": cut})) for cut in sorted((a, b)))
        assert more <= less

    @given(importances(), CUTS, DEPTHS)
    def test_the_cut_is_the_share_of_latency_removed_up_to_one_unit(
        self, importance: Importance, cut: float, depth: int
    ) -> None:
        pruning = make_axis(importance).decode({"prune.cut": cut, "prune.depth": depth})
        staying = WHOLE * depth / SHAPE.layers
        removed = staying - cost(pruning)
        assert removed <= cut * staying + 1e-9
        assert removed > cut * staying - max(COSTS.head, 8 * COSTS.neuron) - 1e-9

    @given(importances(), CUTS)
    def test_what_goes_is_less_important_per_ms_than_what_stays(self, importance: Importance, cut: float) -> None:
        stays = kept(make_axis(importance).decode({"prune.cut": cut}))
        ratios: dict[bool, list[float]] = {True: [], False: []}
        for layer in range(SHAPE.layers):
            for head in range(SHAPE.heads):
                ratios[(layer, "head", head) in stays].append(importance.heads[layer][head] / COSTS.head)
            for group in importance.groups(layer, 8):
                total = sum(importance.neurons[layer][neuron] for neuron in group)
                ratios[(layer, "neuron", group[0]) in stays].append(total / (COSTS.neuron * len(group)))
        assert max(ratios[False], default=0.0) <= min(ratios[True])

    @given(importances(), CUTS)
    def test_neurons_go_in_groups_of_the_size_that_the_hardware_likes(self, importance: Importance, cut: float) -> None:
        for units in make_axis(importance).decode({"prune.cut": cut}).layers:
            assert units is not None
            assert len(units.neurons) % 8 == 0

    @given(importances(), DEPTHS)
    def test_depth_keeps_the_most_important_layers_in_place(self, importance: Importance, depth: int) -> None:
        layers = make_axis(importance).decode({"prune.depth": depth}).layers
        best = sorted(range(SHAPE.layers), key=lambda layer: importance.layers[layer], reverse=True)[:depth]
        assert {layer for layer, units in enumerate(layers) if units is not None} == set(best)

    def test_a_shift_protects_its_layer(self) -> None:
        axis = make_axis(FLAT)
        pruning = axis.decode({"prune.cut": 0.5, "prune.shift.1": 3.0})
        assert pruning.layers[1] == Pruning.identity(SHAPE).layers[1]
        exposed = axis.decode({"prune.cut": 0.34, "prune.shift.1": -3.0})
        assert exposed.layers[1] == LayerUnits((), ())
        assert exposed.layers[0] == exposed.layers[2] == Pruning.identity(SHAPE).layers[0]

    @given(importances(), SHIFTS)
    def test_equal_shifts_change_nothing(self, importance: Importance, shifts: dict[str, Scalar]) -> None:
        axis = make_axis(importance)
        same: dict[str, Scalar] = dict.fromkeys(shifts, 1.0)
        assert axis.decode({"prune.cut": 0.5, **same}) == axis.decode({"prune.cut": 0.5})

    @given(importances(), SHIFTS, CUTS)
    def test_without_blocks_every_layer_and_block_keeps_its_best_unit(
        self, importance: Importance, shifts: dict[str, Scalar], cut: float
    ) -> None:
        axis = make_axis(importance, blocks=False)
        assert "prune.depth" not in axis.knobs
        for layer, units in enumerate(axis.decode({**shifts, "prune.cut": cut}).layers):
            assert units is not None
            assert importance.heads[layer].index(max(importance.heads[layer])) in units.heads
            assert set(importance.groups(layer, 8)[0]) <= set(units.neurons)

    @given(importances(), CUTS)
    def test_families_that_are_off_stay_whole(self, importance: Importance, cut: float) -> None:
        for units in make_axis(importance, heads=False).decode({"prune.cut": cut}).layers:
            assert units is not None
            assert len(units.heads) == SHAPE.heads
        for units in make_axis(importance, ffn=False).decode({"prune.cut": cut}).layers:
            assert units is not None
            assert len(units.neurons) == SHAPE.ffn

    def test_depth_alone_is_a_space_too(self) -> None:
        axis = make_axis(FLAT, heads=False, ffn=False)
        assert set(axis.knobs) == {"prune.depth"}
        assert axis.ladder() == [{}, {"prune.depth": 2}, {"prune.depth": 1}]

    @pytest.mark.parametrize("blocks", [True, False])
    def test_ladder_neutral_and_extremes_lie_in_the_ranges(self, blocks: bool) -> None:
        axis = make_axis(FLAT, blocks=blocks)
        for knobs in (*axis.ladder(), axis.neutral(), *axis.extremes().values()):
            assert all(axis.knobs[name].contains(value) for name, value in knobs.items())

    def test_the_smallest_design_is_the_smallest(self) -> None:
        axis = make_axis(FLAT)
        rng = random.Random(0)
        smallest = cost(axis.decode(axis.extremes()["smallest"]))
        drawn = [axis.decode({name: knob.sample(rng) for name, knob in axis.knobs.items()}) for _ in range(200)]
        assert smallest <= min(cost(pruning) for pruning in drawn)


class TestUnitPruningAxis:
    @given(importances(), SHIFTS, CUTS, DEPTHS)
    def test_writes_every_design_of_the_cut_as_the_same_config(
        self, importance: Importance, shifts: dict[str, Scalar], cut: float, depth: int
    ) -> None:
        pruning = make_axis(importance).decode({**shifts, "prune.cut": cut, "prune.depth": depth})
        groups = [importance.groups(layer, 8) for layer in range(SHAPE.layers)]
        units = UnitPruningAxis(SHAPE, groups)
        knobs: dict[str, Scalar] = {}
        for layer, stays in enumerate(pruning.layers):
            if stays is None:
                knobs[f"layer.{layer}"] = 0
                continue
            knobs |= {f"head.{layer}.{head}": int(head in stays.heads) for head in range(SHAPE.heads)}
            knobs |= {f"group.{layer}.{g}": int(group[0] in stays.neurons) for g, group in enumerate(groups[layer])}
        assert units.decode({**units.neutral(), **knobs}) == pruning

    def test_a_block_knob_is_the_same_as_all_its_units(self) -> None:
        units = UnitPruningAxis(SHAPE, [FLAT.groups(layer, 8) for layer in range(3)])
        names = [f"head.1.{head}" for head in range(4)] + [f"group.1.{group}" for group in range(3)]
        one_by_one: dict[str, Scalar] = dict.fromkeys(names, 0)
        assert units.decode({"attention_block.1": 0, "ffn_block.1": 0}) == units.decode(one_by_one)
        assert units.decode({"attention_block.1": 0, "ffn_block.1": 0}).layers[1] == LayerUnits((), ())
        assert units.decode({"layer.1": 0}).layers[1] is None

    def test_neutral_keeps_everything(self) -> None:
        units = UnitPruningAxis(SHAPE, [FLAT.groups(layer, 8) for layer in range(3)])
        assert units.decode(units.neutral()) == units.decode({}) == Pruning.identity(SHAPE)
        assert len(units.knobs) == 3 * (3 + 4 + 3)
        for knobs in units.extremes().values():
            assert all(units.knobs[name].contains(value) for name, value in knobs.items())


class TestPruning:
    @given(
        st.lists(
            st.none() | st.builds(LayerUnits, *(st.sets(st.integers(0, 200)).map(lambda s: tuple(sorted(s))),) * 2)
        )
    )
    def test_decoded_form_comes_back(self, layers: list[LayerUnits | None]) -> None:
        pruning = Pruning(tuple(layers))
        assert Pruning.from_decoded(pruning.to_decoded()) == pruning

    def test_the_mask_has_one_bit_per_neuron(self) -> None:
        (layer,) = Pruning((LayerUnits((1,), (0, 1, 4)),)).to_decoded()["layers"]
        assert layer == {"heads": [1], "ffn": 3, "ffn_mask": "13"}

    def test_groups_rank_neurons_and_keep_the_remainder_last(self) -> None:
        importance = Importance(((1.0,),), ((0.1, 0.5, 0.3, 0.5, 0.2),), (1.0,))
        assert importance.groups(0, 2) == ((1, 3), (2, 4), (0,))


class TestQuantizationAxis:
    def test_absent_knobs_are_as_wide_as_possible(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(4, 32, 8))
        assert axis.decode({}) == axis.decode(axis.neutral()) == Quantization.uniform(SHAPE, 32)

    def test_every_knob_sets_its_own_part(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(32, 8, 4))
        shifts = {"bits.shift.1.ffn": -1.0, "bits.shift.2.attention": 1.0, "bits.shift.0.ffn": 0.75}
        chosen = axis.decode({"bits.level": 8, **shifts, "bits.embeddings": 4, "bits.head": 8})
        assert chosen == Quantization((LayerBits(8, 8), LayerBits(8, 4), LayerBits(32, 8)), embeddings=4, head=8)

    def test_there_is_no_width_beyond_the_widest_and_the_narrowest(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(32, 8, 4))
        assert axis.decode({"bits.level": 32, "bits.shift.0.ffn": 1.0}).layers[0] == LayerBits(32, 32)
        assert axis.decode({"bits.level": 4, "bits.shift.0.ffn": -1.0}).layers[0] == LayerBits(4, 4)

    def test_most_blocks_of_a_random_design_share_its_level(self) -> None:
        axis, rng = QuantizationAxis(SHAPE, bits=(32, 8, 4)), random.Random(0)
        drawn = [{name: knob.sample(rng) for name, knob in axis.knobs.items()} for _ in range(200)]
        widths = [(knobs["bits.level"], layer.ffn) for knobs in drawn for layer in axis.decode(knobs).layers if layer]
        assert 0.7 < sum(level == width for level, width in widths) / len(widths) < 0.95

    def test_embeddings_have_their_own_widths(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(32, 8), embeddings=(32, 4))
        assert axis.knobs["bits.embeddings"].contains(4)
        assert not axis.knobs["bits.embeddings"].contains(8)
        assert not axis.knobs["bits.head"].contains(4)

    def test_the_ladder_is_uniform_with_tables_no_wider_than_the_layers(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(32, 8, 4))
        rungs = [axis.decode(knobs) for knobs in axis.ladder()]
        assert [(rung.head, rung.embeddings) for rung in rungs] == [(8, 8), (8, 4), (4, 4)]
        assert all(rung.layers == (LayerBits(rung.head, rung.head),) * 3 for rung in rungs)

    @given(st.integers(0, 2**32))
    def test_decoded_form_comes_back(self, seed: int) -> None:
        axis, rng = QuantizationAxis(SHAPE, bits=(32, 8, 4)), random.Random(seed)
        chosen = axis.decode({name: knob.sample(rng) for name, knob in axis.knobs.items()})
        assert Quantization.from_decoded(chosen.to_decoded()) == chosen

    def test_extremes_are_the_widest_and_the_narrowest(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(32, 8, 4), embeddings=(32, 8))
        assert axis.decode(axis.extremes()["whole"]) == Quantization.uniform(SHAPE, 32)
        assert axis.decode(axis.extremes()["smallest"]) == Quantization((LayerBits(4, 4),) * 3, embeddings=8, head=4)


class TestNarrowing:
    def test_parts_go_a_width_down_one_by_one(self) -> None:
        axis = QuantizationAxis(SHAPE, bits=(32, 8, 4))
        widths = Quantization((LayerBits(8, 4), None, *(LayerBits(None, 32),) * (SHAPE.layers - 2)), 4, 8)
        assert axis.parts(widths)[:2] == ("0.attention", "2.ffn")
        narrowed = axis.narrow(widths, ["0.attention", "2.ffn"])
        assert narrowed.layers[:3] == (LayerBits(4, 4), None, LayerBits(None, 8))
        assert narrowed.layers[3:] == widths.layers[3:]
        assert (narrowed.embeddings, narrowed.head) == (4, 8)
        assert axis.parts(Quantization.uniform(SHAPE, 4)) == ()


class TestVocabularyAxis:
    def test_a_size_is_the_whole_where_it_is_the_model_s_or_absent(self) -> None:
        axis = VocabularyAxis(SHAPE, sizes=(40, 60))
        assert axis.decode({}) == axis.decode(axis.neutral()) == Vocabulary.whole()
        assert [axis.decode(knobs) for knobs in axis.ladder()] == [Vocabulary.whole(), Vocabulary(60), Vocabulary(40)]
        assert axis.decode(axis.extremes()["smallest"]) == Vocabulary(40)

    def test_sizes_that_the_model_does_not_have_are_left_out(self) -> None:
        axis = VocabularyAxis(SHAPE, sizes=(SHAPE.vocab, 60, 2 * SHAPE.vocab))
        assert [value for value in range(250) if axis.knobs["vocabulary.size"].contains(value)] == [60, SHAPE.vocab]
        assert VocabularyAxis(SHAPE, sizes=()).ladder() == [{"vocabulary.size": SHAPE.vocab}]


class TestVocabulary:
    RANKING = (3, 0, 4, 1, 2)

    def test_the_first_of_the_ranking_stay_in_the_order_of_their_ids(self) -> None:
        assert Vocabulary(3).kept(self.RANKING) == (0, 3, 4)
        assert Vocabulary.whole().kept(self.RANKING) is None

    def test_there_must_be_a_ranking_of_so_many(self) -> None:
        for size, ranking in ((6, self.RANKING), (1, ()), (0, self.RANKING)):
            with pytest.raises(DesignError, match=f"keeps {size} tokens, the template's ranking has {len(ranking)}"):
                Vocabulary(size).kept(ranking)

    def test_ids_that_a_model_relies_on_do_not_change(self) -> None:
        assert Vocabulary(3).kept(self.RANKING, fixed=(0,)) == (0, 3, 4)
        for token in (1, 3):
            with pytest.raises(DesignError, match=f"relies on token {token}"):
                Vocabulary(3).kept(self.RANKING, fixed=(token,))

    def test_it_lies_beside_the_widths_of_the_tables(self) -> None:
        member = Member((Quantization.uniform(SHAPE, 4), Vocabulary(60)))
        assert member.decoded["embeddings"] == {"bits": 4, "vocabulary": 60}
        assert Quantization.from_decoded(member.decoded) == Quantization.uniform(SHAPE, 4)
        assert Vocabulary.from_decoded(member.decoded) == Vocabulary(60)

    def test_records_from_before_have_the_whole(self) -> None:
        assert Vocabulary.from_decoded(Quantization.uniform(SHAPE).to_decoded()) == Vocabulary.whole()
        assert Vocabulary.from_decoded(Pruning.identity(SHAPE).to_decoded()) == Vocabulary.whole()


class TestForgetAbsentParts:
    PRUNING = Pruning((LayerUnits((0,), ()), None, LayerUnits((), (3,))))

    def test_a_block_that_is_gone_has_no_width(self) -> None:
        _, bits = forget_absent_parts((self.PRUNING, Quantization.uniform(SHAPE, 8)))
        assert bits == Quantization((LayerBits(8, None), None, LayerBits(None, 8)), embeddings=8, head=8)

    @given(st.lists(st.sampled_from((32, 8, 4)), min_size=6, max_size=6))
    def test_widths_of_absent_blocks_make_no_difference(self, widths: list[int]) -> None:
        layers = tuple(LayerBits(*widths[start : start + 2]) for start in (0, 2, 4))
        same = (LayerBits(layers[0].attention, 32), LayerBits(32, 32), LayerBits(32, layers[2].ffn))
        assert forget_absent_parts((self.PRUNING, Quantization(layers))) == forget_absent_parts(
            (self.PRUNING, Quantization(same))
        )

    def test_is_idempotent_and_leaves_spaces_without_pruning_alone(self) -> None:
        once = forget_absent_parts((self.PRUNING, Quantization.uniform(SHAPE, 8)))
        assert forget_absent_parts(once) == once
        assert forget_absent_parts((Quantization.uniform(SHAPE),)) == (Quantization.uniform(SHAPE),)


class TestPruningAxisContract(AxisContract):
    @pytest.fixture
    def axis(self) -> PruningAxis:
        rng = random.Random(0)
        return make_axis(
            Importance(
                tuple(tuple(rng.random() for _ in range(SHAPE.heads)) for _ in range(SHAPE.layers)),
                tuple(tuple(rng.random() for _ in range(SHAPE.ffn)) for _ in range(SHAPE.layers)),
                tuple(rng.random() for _ in range(SHAPE.layers)),
            )
        )


class TestUnitPruningAxisContract(AxisContract):
    @pytest.fixture
    def axis(self) -> UnitPruningAxis:
        return UnitPruningAxis(SHAPE, [[range(0, 8), range(8, 24)]] * SHAPE.layers)


class TestQuantizationAxisContract(AxisContract):
    @pytest.fixture
    def axis(self) -> QuantizationAxis:
        return QuantizationAxis(SHAPE, bits=(32, 8, 4))


class TestVocabularyAxisContract(AxisContract):
    @pytest.fixture
    def axis(self) -> VocabularyAxis:
        return VocabularyAxis(SHAPE, sizes=(40, 60))


def test_rungs_of_the_ladder_spare_what_few_bits_hurt() -> None:
    axis = QuantizationAxis(SHAPE, (32, 8, 4), sensitive=("1.ffn", "head"))
    for rung in axis.ladder():
        found = axis.decode(rung)
        level = found.layers[0]
        assert level == LayerBits(level.attention, level.attention)  # type: ignore[union-attr]
        wider = {8: 32, 4: 8}[level.attention]  # type: ignore[union-attr, index]
        assert found.layers[1] == LayerBits(level.attention, wider)  # type: ignore[union-attr]
        assert found.head == wider
    assert axis.decode(axis.neutral()) == Quantization.uniform(SHAPE)
    assert axis.decode(axis.extremes()["smallest"]) == Quantization.uniform(SHAPE, 4)


class TestRareAxis(AxisContract):
    @pytest.fixture
    def axis(self) -> RareAxis:
        return RareAxis(SHAPE, sizes=(40, 60))

    def test_a_size_is_all_rows_where_it_is_the_model_s_or_absent(self, axis: RareAxis) -> None:
        assert axis.decode({}) == axis.decode(axis.neutral()) == RareTokens.none()
        assert [axis.decode(knobs) for knobs in axis.ladder()] == [RareTokens.none(), RareTokens(60), RareTokens(40)]
        assert RareTokens.from_decoded({}) == RareTokens.none()

    def test_rows_are_split_by_rank(self) -> None:
        assert RareTokens(2).split((4, 0, 2, 1), rows=6) == ((0, 4), (1, 2, 3, 5))
        assert RareTokens.none().split((), rows=6) is None
        with pytest.raises(DesignError, match="keeps 5 exact rows, the template's ranking has 4 tokens"):
            RareTokens(5).split((4, 0, 2, 1), rows=6)
