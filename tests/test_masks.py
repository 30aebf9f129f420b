"""Masks: gates at 0 compute what slicing computes, gates have gradients, nothing is left behind."""

from collections.abc import Callable

import pytest
import torch

from evaluators.anatomy import Anatomy
from evaluators.transforms.base import build
from evaluators.transforms.masks import Masks, masked
from spaces.axes.pruning import LayerUnits, Pruning
from tests.prunings import random_pruning
from tests.tiny_models import FAMILIES, FFN, HEADS, tiny

WHOLE = LayerUnits(tuple(range(HEADS)), tuple(range(FFN)))
HOLLOW: dict[str, LayerUnits | None] = {
    "no_attention": LayerUnits((), WHOLE.neurons),
    "no_ffn": LayerUnits(WHOLE.heads, ()),
    "neither": LayerUnits((), ()),
    "no_layer": None,
}


def logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**inputs).logits
    return found


def hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(6))
def test_slicing_equals_masking(family: str, seed: int) -> None:
    model, inputs = tiny(family, seed)
    shape = Anatomy.of(model).shape
    pruning = random_pruning(shape, seed)
    with masked(model, Masks.of(pruning, shape)):
        expected = logits(model, inputs)
    torch.testing.assert_close(logits(build(pruning, model), inputs), expected, atol=1e-5, rtol=0)
    assert (expected - logits(model, inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", HOLLOW)
def test_slicing_equals_masking_where_a_block_is_gone(family: str, case: str) -> None:
    model, inputs = tiny(family)
    pruning = Pruning((WHOLE, HOLLOW[case], WHOLE))
    with masked(model, Masks.of(pruning, Anatomy.of(model).shape)):
        expected = logits(model, inputs)
    torch.testing.assert_close(logits(build(pruning, model), inputs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gates_at_one_change_nothing(family: str) -> None:
    model, inputs = tiny(family)
    with masked(model, Masks.ones(Anatomy.of(model).shape)):
        inside = logits(model, inputs)
    assert torch.equal(inside, logits(model, inputs))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_unhooked_afterwards_even_after_an_error(family: str) -> None:
    model, inputs = tiny(family)
    before, hooked = logits(model, inputs), hooks(model)
    nothing = Masks.of(Pruning((None,) * 3), Anatomy.of(model).shape)
    with pytest.raises(KeyError), masked(model, nothing):
        raise KeyError
    assert torch.equal(logits(model, inputs), before)
    assert hooks(model) == hooked


@pytest.mark.parametrize("family", FAMILIES)
def test_every_example_can_have_gates_of_its_own(family: str) -> None:
    model, inputs = tiny(family)
    shape = Anatomy.of(model).shape
    batch = len(next(iter(inputs.values())))
    singles = [Masks.of(random_pruning(shape, seed), shape) for seed in range(batch)]
    stacked = Masks(
        *(
            torch.stack([getattr(one, name) for one in singles], 1)
            for name in ("heads", "neurons", "attention", "ffn", "layers")
        )
    )
    with masked(model, stacked):
        found = logits(model, inputs)
    for row, single in enumerate(singles):
        with masked(model, single):
            torch.testing.assert_close(found[row], logits(model, inputs)[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("field", ["heads", "neurons", "attention", "ffn", "layers"])
def test_gradients_by_gates_are_those_of_finite_differences(field: str) -> None:
    model, inputs = tiny("bert")
    model = model.double()
    shape = Anatomy.of(model).shape

    def loss(change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        ones = Masks.ones(shape)
        gates = {name: getattr(ones, name).double() for name in ("heads", "neurons", "attention", "ffn", "layers")}
        gates[field] = change(gates[field])
        with masked(model, Masks(**gates)):
            total: torch.Tensor = model(**inputs).logits.square().sum()
        return total

    gate = getattr(Masks.ones(shape), field).double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(lambda _: gate), gate)
    step = torch.zeros_like(gate)
    step.view(-1)[1] = 1e-5
    with torch.no_grad():
        difference = (loss(lambda ones: ones + step) - loss(lambda ones: ones - step)) / 2e-5
    torch.testing.assert_close(gradient.view(-1)[1], difference, rtol=1e-6, atol=1e-8)
