"""Designs, knobs, spaces and targets against their definitions."""

import copy
import itertools
import json
import math
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces import errors
from spaces.axes.pruning import Importance, LayerUnits, Pruning, PruningAxis, UnitCosts
from spaces.axes.quantization import LayerBits, Quantization, QuantizationAxis, forget_absent_parts
from spaces.design import Design, Member, content_key
from spaces.errors import DesignError
from spaces.knobs import Choice, FloatRange, IntRange, Knob, Scalar
from spaces.shape import ModelShape
from spaces.space import Space
from spaces.target import Target

SHAPE = ModelShape(layers=3, heads=2, head_size=4, ffn=8, hidden=8, vocab=50)
IMPORTANCE = Importance(
    heads=((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)),
    neurons=tuple(tuple(float(1 + layer * 8 + n) for n in range(8)) for layer in range(3)),
    layers=(3.0, 1.0, 2.0),
)
SCALARS = st.one_of(
    st.booleans(), st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
DESIGNS = st.dictionaries(st.text(min_size=1), SCALARS, max_size=6)


def make_space() -> Space:
    pruning = PruningAxis(SHAPE, IMPORTANCE, UnitCosts(head=0.1, neuron=0.01), ffn_group=4)
    return Space([pruning, QuantizationAxis(SHAPE, bits=(32, 8, 4))], rules=[forget_absent_parts])


class TestDesign:
    @given(DESIGNS)
    def test_is_the_mapping_it_was_made_from(self, knobs: dict[str, Any]) -> None:
        assert dict(Design(knobs)) == knobs

    @given(DESIGNS)
    def test_order_of_knobs_does_not_matter(self, knobs: dict[str, Any]) -> None:
        turned = Design(dict(reversed(knobs.items())))
        assert turned == Design(knobs)
        assert hash(turned) == hash(Design(knobs))

    @given(DESIGNS)
    def test_copies_and_pickles_are_equal(self, knobs: dict[str, Any]) -> None:
        design = Design(knobs)
        assert pickle.loads(pickle.dumps(design)) == copy.deepcopy(design) == design

    def test_cannot_be_changed(self) -> None:
        design = Design({"a": 1})
        with pytest.raises(AttributeError, match="immutable"):
            design.a = 2
        with pytest.raises(TypeError):
            design["a"] = 2  # type: ignore[index]

    def test_does_not_follow_the_mapping_it_was_made_from(self) -> None:
        knobs: dict[str, Any] = {"a": 1}
        design = Design(knobs)
        knobs["a"] = 2
        assert design["a"] == 1

    @pytest.mark.parametrize("value", [None, [1], {"b": 1}, (1,)])
    def test_values_are_scalars(self, value: Any) -> None:
        with pytest.raises(DesignError, match="a knob's value is a bool, int, float or str"):
            Design({"a": value})

    def test_different_values_have_different_keys(self) -> None:
        values: list[Scalar] = [True, 1, 2, 1.5, "1", "true", False, 0]
        assert len({Design({"a": value}).key for value in values}) == len(values)

    def test_the_key_is_the_same_in_every_process(self) -> None:
        knobs: dict[str, Scalar] = {"b": 0.25, "a": 3, "c": "soft", "d": True}
        code = f"from spaces.design import Design; print(Design({knobs!r}).key)"
        root = Path(__file__).resolve().parent.parent
        keys = [
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=root,
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for seed in ("1", "2")
        ]
        assert keys == [Design(knobs).key] * 2

    def test_the_key_is_the_start_of_a_known_hash(self) -> None:
        assert content_key({}) == "44136fa355b3678a"  # sha256 of the two bytes {}


class TestKnobs:
    @pytest.mark.parametrize(
        "knob",
        [
            Choice((32, 8, 4)),
            Choice(("soft", "hard", True)),
            IntRange(-2, 5),
            FloatRange(0.0, 0.9, 0.01),
            FloatRange(-1.0, 1.0),
        ],
    )
    def test_samples_are_members_and_follow_the_seed(self, knob: Knob) -> None:
        drawn = [knob.sample(random.Random(seed)) for seed in range(200)]
        assert all(knob.contains(value) for value in drawn)
        assert drawn == [knob.sample(random.Random(seed)) for seed in range(200)]
        assert len(set(drawn)) > 1

    def test_every_member_of_a_small_knob_is_drawn(self) -> None:
        rng = random.Random(0)
        assert {IntRange(1, 3).sample(rng) for _ in range(100)} == {1, 2, 3}
        assert {FloatRange(0.0, 0.3, 0.1).sample(rng) for _ in range(100)} == {0.0, 0.1, 0.2, 0.3}

    @pytest.mark.parametrize(
        ("knob", "value"),
        [
            (Choice((0, 1)), True),
            (Choice((0, 1)), 1.0),
            (Choice((8, 4)), 16),
            (IntRange(1, 3), 0),
            (IntRange(1, 3), 2.0),
            (IntRange(0, 1), True),
            (FloatRange(0.0, 1.0), 1.1),
            (FloatRange(0.0, 1.0), True),
            (FloatRange(0.0, 1.0), math.nan),
            (FloatRange(0.0, 1.0), "0.5"),
        ],
    )
    def test_types_and_ranges_are_strict(self, knob: Knob, value: Any) -> None:
        assert not knob.contains(value)

    def test_an_integer_is_a_real_number(self) -> None:
        assert FloatRange(0.0, 1.0).contains(1)

    def test_nonsense_is_refused(self) -> None:
        for make in (lambda: Choice(()), lambda: Choice((1, 1)), lambda: IntRange(2, 1), lambda: FloatRange(1.0, 0.0)):
            with pytest.raises(ValueError, match=r"Choice|Range"):
                make()

    @given(st.floats(-10, 10))
    def test_nearest_is_the_closest_grid_point(self, value: float) -> None:
        knob = FloatRange(-3.0, 3.0, step=0.25)
        grid = [-3.0 + 0.25 * step for step in range(25)]
        assert abs(knob.nearest(value) - value) == pytest.approx(min(abs(point - value) for point in grid))
        assert knob.contains(knob.nearest(value))

    def test_nearest_without_a_grid_clips(self) -> None:
        assert [FloatRange(0.0, 1.0).nearest(value) for value in (-1.0, 0.3, 2.0)] == [0.0, 0.3, 1.0]


class TestMember:
    MEMBER = Member(
        (
            Pruning((LayerUnits((0, 1), (0, 2, 5)), None, LayerUnits((), ()))),
            Quantization((LayerBits(8, 4), None, LayerBits(None, None)), embeddings=4, head=8),
        )
    )

    def test_decoded_holds_every_family_side_by_side(self) -> None:
        assert self.MEMBER.decoded == {
            "layers": [
                {"heads": [0, 1], "ffn": 3, "ffn_mask": "25", "bits": {"attention": 8, "ffn": 4}},
                None,
                {"heads": [], "ffn": 0, "ffn_mask": "0", "bits": {"attention": None, "ffn": None}},
            ],
            "embeddings": {"bits": 4},
            "head": {"bits": 8},
        }

    def test_comes_back_from_json(self) -> None:
        decoded = json.loads(json.dumps(self.MEMBER.decoded))
        back = Member((Pruning.from_decoded(decoded), Quantization.from_decoded(decoded)))
        assert back == self.MEMBER
        assert back.key == self.MEMBER.key
        assert make_space().member(decoded, "finetuned") == self.MEMBER

    def test_other_weights_are_another_member(self) -> None:
        assert Member(self.MEMBER.configs, "recovered:1234").key != self.MEMBER.key

    def test_the_order_of_families_is_not_part_of_the_key(self) -> None:
        assert Member(self.MEMBER.configs[::-1]).key == self.MEMBER.key

    def test_configs_are_found_by_type(self) -> None:
        assert self.MEMBER.config(Quantization) is self.MEMBER.configs[1]
        with pytest.raises(KeyError, match="LayerBits is not among"):
            self.MEMBER.config(LayerBits)

    def test_is_hashable_and_pickles(self) -> None:
        assert {self.MEMBER: 1}[pickle.loads(pickle.dumps(self.MEMBER))] == 1


class TestSpace:
    def test_samples_pass_the_check_and_decode(self) -> None:
        space, rng = make_space(), random.Random(3)
        for _ in range(50):
            design = space.sample(rng)
            assert space.check(design) is design
            assert space.decode(design).config(Pruning).layers

    def test_the_same_seed_gives_the_same_designs(self) -> None:
        one, other = random.Random(7), random.Random(7)
        assert [make_space().sample(one) for _ in range(5)] == [make_space().sample(other) for _ in range(5)]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"prune.cutt": 0.1}, "prune.cutt is not a knob of this space. Known knobs: .*prune.cut"),
            ({"bits.head": 3}, r"bits.head=3 is not in Choice\(values=\(32, 8, 4\)\). Widen the axis"),
            ({"prune.depth": 9}, "prune.depth=9 is not in IntRange"),
        ],
    )
    def test_a_design_of_another_space_is_refused(self, change: dict[str, Any], message: str) -> None:
        space = make_space()
        with pytest.raises(DesignError, match=message):
            space.decode(Design({**space.identity(), **change}))

    def test_a_missing_knob_is_named(self) -> None:
        space = make_space()
        knobs = dict(space.identity())
        del knobs["bits.head"]
        with pytest.raises(DesignError, match=r"bits.head is missing"):
            space.check(Design(knobs))

    def test_the_identity_is_the_original_model(self) -> None:
        member = make_space().decode(make_space().identity())
        assert member.configs == (Pruning.identity(SHAPE), Quantization.uniform(SHAPE))

    def test_seeds_start_with_the_identity_and_name_no_model_twice(self) -> None:
        space = make_space()
        seeds = space.seeds()
        assert seeds[0] == space.identity()
        keys = [space.decode(seed).key for seed in seeds]
        assert len(set(keys)) == len(keys) > 10

    def test_seeds_hold_every_rung_of_one_axis_beside_every_rung_of_the_other(self) -> None:
        space = make_space()
        rungs = itertools.product(*(axis.ladder() for axis in space.axes))
        wanted = {space.decode(Design({**space.identity(), **left, **right})).key for left, right in rungs}
        assert {space.decode(seed).key for seed in space.seeds()} == {*wanted, space.decode(space.identity()).key}

    def test_knobs_that_change_nothing_decode_to_equal_members(self) -> None:
        space = make_space()
        shallow = {**space.identity(), "prune.depth": 1}  # layer 0 stays
        one, other = Design({**shallow, "bits.shift.2.ffn": -1.0}), Design({**shallow, "prune.shift.1": 2.0})
        assert one != other
        assert space.decode(one) == space.decode(other)

    def test_extremes_are_designs_of_the_space(self) -> None:
        space = make_space()
        extremes = space.extremes()
        assert extremes["whole"] == space.identity()
        smallest = space.decode(space.check(extremes["smallest"]))
        assert sum(units is not None for units in smallest.config(Pruning).layers) == 1
        assert (smallest.config(Quantization).embeddings, smallest.config(Quantization).head) == (4, 4)

    def test_cardinality_is_the_product_of_the_knobs(self) -> None:
        # a cut of 91 values for time or bytes, 3 shifts of 25, 3 depths; 3 choices of width and 6 shifts of 17
        assert make_space().log10_designs() == pytest.approx(math.log10(91 * 2 * 25**3 * 3 * 3**3 * 17**6))
        description = make_space().describe()
        assert description["knobs"] == {"pruning": 6, "quantization": 9}
        assert json.loads(json.dumps(description)) == description

    def test_pickles(self) -> None:
        space = pickle.loads(pickle.dumps(make_space()))
        assert space.decode(space.identity()) == make_space().decode(make_space().identity())


class TestTarget:
    def test_the_label_is_not_part_of_the_key(self) -> None:
        assert Target(label="a").key == Target(label="b").key

    @pytest.mark.parametrize(
        "other",
        [
            Target(threads=2),
            Target(batch_size=8),
            Target(lengths=128),
            Target(processor="avx2"),
            Target(runtime_version="9"),
        ],
    )
    def test_everything_that_changes_a_figure_is(self, other: Target) -> None:
        assert other.key != Target().key

    def test_comes_back_from_json(self) -> None:
        target = Target("gpu-b", "cuda", "x", "torch", "2.13", 2, 8, 64)
        assert Target(**json.loads(json.dumps(target.to_json()))) == target


def test_exit_codes_follow_the_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    callers = {kind for kind in kinds if issubclass(kind, errors.CallerError)}
    assert {kind.exit_code for kind in callers} == {2}
    assert errors.InfeasibleError.exit_code == 3
    assert all(issubclass(kind, errors.ParetoformerError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
