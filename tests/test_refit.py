"""Least squares block by block: exact where what stays can stand in, nearer to the original where it cannot."""

import copy

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear
from evaluators.refit import Refit
from evaluators.tasks.base import Encoded
from evaluators.transforms.base import build
from spaces.axes.pruning import LayerUnits, Pruning
from tests.prunings import random_pruning
from tests.tiny_models import VOCAB, tiny

FAMILIES = ("bert", "distilbert", "roberta", "electra")
_RIDGE = 1e-3


def rows(count: int = 60, seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)
    inputs = tuple(
        {"input_ids": rng.integers(5, VOCAB, n), "attention_mask": np.ones(n, np.int64)}
        for n in rng.integers(3, 12, count)
    )
    return Encoded(inputs, (0,) * count)


def logits(model: PreTrainedModel, encoded: Encoded) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(
            [model(**{name: torch.from_numpy(v) for name, v in batch.items()}).logits for batch in encoded.batches(1)]
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_missing_where_nothing_went(family: str) -> None:
    model, _ = tiny(family)
    whole = Pruning.identity(Anatomy.of(model).shape)
    refitted = Refit(model, rows())(build(whole, model), whole.kept_layers)
    for own, back in zip(model.parameters(), refitted.parameters(), strict=True):
        torch.testing.assert_close(back, own, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [(0, 1, 2), (0, 2), (0, 1)])
def test_the_cut_model_comes_nearer_to_the_original(family: str, layers: tuple[int, ...]) -> None:
    """Half of the heads and neurons go, and a layer in the middle or at the end."""
    model, _ = tiny(family)
    shape = Anatomy.of(model).shape
    half = LayerUnits(tuple(range(0, shape.heads, 2)), tuple(range(0, shape.ffn, 2)))
    pruning = Pruning(tuple(half if index in layers else None for index in range(shape.layers)))
    plain, fresh = build(pruning, model), rows(100, seed=1)
    refitted = Refit(model, rows(600))(copy.deepcopy(plain), pruning.kept_layers)
    expected = logits(model, fresh)
    before, after = (float((logits(one, fresh) - expected).square().mean()) for one in (plain, refitted))
    assert after < before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_missing_blocks_and_layers_are_no_obstacle(family: str, seed: int) -> None:
    model, _ = tiny(family)
    pruning = random_pruning(Anatomy.of(model).shape, seed)
    refitted = Refit(model, rows())(build(pruning, model), pruning.kept_layers)
    assert torch.isfinite(logits(refitted, rows())).all()


def test_twins_stand_in_for_each_other() -> None:
    """Half of the neurons do what the other half does: without them nothing is lost."""
    model, _ = tiny("bert")
    anatomy = Anatomy.of(model)
    half = anatomy.shape.ffn // 2
    with torch.no_grad():
        for parts in anatomy.layers:
            entering = linear(model, parts.ffn_in)
            entering.weight[half:], entering.bias[half:] = entering.weight[:half], entering.bias[:half]
    heads = tuple(range(anatomy.shape.heads))
    pruning = Pruning((LayerUnits(heads, tuple(range(half))),) * anatomy.shape.layers)
    plain, encoded = build(pruning, model), rows(200)
    refitted = Refit(model, encoded)(copy.deepcopy(plain), pruning.kept_layers)
    expected = logits(model, encoded)
    lost = [(logits(one, encoded) - expected).abs().max() for one in (plain, refitted)]
    assert lost[1] < 0.05 * lost[0]


def test_the_first_block_is_ridge_regression() -> None:
    """Against numpy: in front of it nothing has changed, so only its own heads are missing."""
    model, _ = tiny("bert")
    anatomy, encoded = Anatomy.of(model), rows()
    shape, parts = anatomy.shape, anatomy.layers[0]
    whole = LayerUnits(tuple(range(shape.heads)), tuple(range(shape.ffn)))
    pruning = Pruning((LayerUnits((0,), whole.neurons), *(whole,) * (shape.layers - 1)))
    entered: list[np.ndarray] = []
    hook = linear(model, parts.attention_output).register_forward_pre_hook(lambda _, a: entered.append(a[0][0].numpy()))
    logits(model, encoded)
    hook.remove()
    contexts = np.concatenate(entered).astype(np.float64)  # (tokens, heads * d)
    weight, bias = (each.detach().double().numpy() for each in linear(model, parts.attention_output).parameters())
    left = np.column_stack([contexts[:, : shape.head_size], np.ones(len(contexts))])
    gone = contexts[:, shape.head_size :] @ weight[:, shape.head_size :].T
    moments = left.T @ left
    moments += _RIDGE * np.diag(moments).mean() * np.eye(len(moments))
    change = np.linalg.solve(moments, left.T @ gone)
    refitted = Refit(model, encoded)(build(pruning, model), pruning.kept_layers)
    found = linear(refitted, parts.attention_output)
    expected = weight[:, : shape.head_size] + change[:-1].T
    np.testing.assert_allclose(found.weight.detach().numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(found.bias.detach().numpy(), bias + change[-1], atol=1e-4)
