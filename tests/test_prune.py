"""Slicing: the identity is exact, less is really less, the input stays as it was."""

import pickle
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import pytest
import torch

from evaluators.anatomy import Anatomy, linear
from evaluators.transforms.base import apply, build
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.errors import DesignError, ModelError
from tests.contracts.transform import TransformContract
from tests.prunings import random_pruning
from tests.tiny_models import FAMILIES, FFN, HEADS, HIDDEN, LAYERS, tiny

WHOLE = LayerUnits(tuple(range(HEADS)), tuple(range(FFN)))


class Distortion:
    """A family that torch has never heard of."""

    family: ClassVar[str] = "distortion"

    def to_decoded(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        return cls()


def parameters(model: torch.nn.Module) -> int:
    """At every place where they are used."""
    return sum(parameter.numel() for _, parameter in model.named_parameters(remove_duplicate=False))


class TestPruning(TransformContract):
    @pytest.fixture(params=FAMILIES)
    def tiny_model(self, request: pytest.FixtureRequest) -> tuple[Any, Any]:
        return tiny(request.param)

    @pytest.fixture
    def model(self, tiny_model: tuple[Any, Any]) -> Any:
        return tiny_model[0]

    @pytest.fixture
    def inputs(self, tiny_model: tuple[Any, Any]) -> Any:
        return tiny_model[1]

    @pytest.fixture
    def identity(self, model: Any) -> Pruning:
        return Pruning.identity(Anatomy.of(model).shape)

    @pytest.fixture
    def change(self, model: Any) -> Pruning:
        return random_pruning(Anatomy.of(model).shape, seed=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_input_stays_as_it_was(family: str) -> None:
    model, inputs = tiny(family)
    before, logits = pickle.dumps(model.state_dict()), model(**inputs).logits
    built = build(random_pruning(Anatomy.of(model).shape, seed=1), model)
    assert pickle.dumps(model.state_dict()) == before
    assert torch.equal(model(**inputs).logits, logits)
    assert model.config.num_hidden_layers == LAYERS
    assert not {tensor.data_ptr() for tensor in built.parameters()} & {
        tensor.data_ptr() for tensor in model.parameters()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_removed_units_take_their_parameters_with_them(family: str) -> None:
    model, _ = tiny(family)
    anatomy = Anatomy.of(model)
    shape, parts = anatomy.shape, anatomy.layers[0]
    bias = int(linear(model, parts.query).bias is not None)
    head = shape.head_weights + len(parts.of_heads) * shape.head_size * bias
    neuron = shape.neuron_weights + bias
    attention, ffn = HEADS * head + HIDDEN * bias, FFN * neuron + HIDDEN * bias  # output biases go with their blocks
    norms = parameters(model.get_submodule(anatomy.layers[2].name)) - attention - ffn
    pruning = Pruning((LayerUnits((0, 2), (1, 5, 7)), LayerUnits((), ()), None))
    expected = 2 * head + (FFN - 3) * neuron + (attention + ffn) + (attention + ffn + norms)
    assert parameters(model) - parameters(build(pruning, model)) == expected


def test_layers_that_share_their_weights_still_do_where_they_are_cut_alike() -> None:
    model, _ = tiny("albert")
    one, other = LayerUnits((0, 2), (1, 5, 7)), LayerUnits((1,), (1, 5, 7))
    alike, apart = (build(Pruning((one, second, one)), model) for second in (one, other))
    saved = sum(parameter.numel() for parameter in apart.parameters()) - sum(p.numel() for p in alike.parameters())
    shape = Anatomy.of(model).shape
    assert saved == shape.head_weights + 3 * shape.head_size + shape.hidden
    first, second, third = Anatomy.of(model).layers
    assert linear(alike, first.query).weight is linear(alike, second.query).weight
    assert linear(alike, first.query).weight is not linear(alike, third.query).weight


@pytest.mark.parametrize("family", FAMILIES)
def test_a_removed_layer_is_gone(family: str) -> None:
    model, inputs = tiny(family)
    built = build(Pruning((WHOLE, None, WHOLE)), model)
    assert built.config.num_hidden_layers == LAYERS - 1
    assert len(Anatomy.of(built).layers) == LAYERS - 1
    assert built(**inputs).logits.isfinite().all()


def test_without_any_layer_the_embeddings_reach_the_head() -> None:
    model, inputs = tiny("bert")
    built = build(Pruning((None,) * LAYERS), model)
    embedded = model.get_submodule("bert.embeddings")(inputs["input_ids"])
    expected = model.get_submodule("classifier")(model.get_submodule("bert.pooler")(embedded))
    torch.testing.assert_close(built(**inputs).logits, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_built_models_train(family: str) -> None:
    model, inputs = tiny(family)
    built = build(random_pruning(Anatomy.of(model).shape, seed=2), model)
    built(**inputs).logits.sum().backward()
    assert all(parameter.requires_grad for parameter in built.parameters())


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        (Pruning((WHOLE,)), "has 1 layers"),
        (Pruning((WHOLE, WHOLE, LayerUnits((HEADS,), (0,)))), "Layer 2 keeps heads"),
        (Pruning((WHOLE, LayerUnits((0,), (3, 1)), WHOLE)), "Layer 1 keeps neurons"),
    ],
)
def test_a_pruning_of_another_model_is_refused(pruning: Pruning, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        build(pruning, tiny("bert")[0])


def test_torch_builds_32_bits_only() -> None:
    model, inputs = tiny("bert")
    shape = Anatomy.of(model).shape
    pruning = random_pruning(shape, seed=3)
    built = apply(Member((pruning, Quantization.uniform(shape))), model)
    assert torch.equal(built(**inputs).logits, build(pruning, model)(**inputs).logits)
    with pytest.raises(ModelError, match="32 bits only, found \\[8\\]"):
        apply(Member((Quantization.uniform(shape, 8),)), model)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot build Distortion"):
        build(Distortion(), tiny("bert")[0])
