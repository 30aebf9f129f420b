"""Importance: the batched figures are those of one backward pass per example; files belong to their inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear, sharing
from evaluators.importance import fisher_importance, load_importance, save_importance
from evaluators.tasks.base import Encoded
from evaluators.transforms.masks import Masks, masked
from spaces.axes.pruning import Importance
from spaces.errors import RunError
from tests.tiny_models import CLASSES, TEXT_FAMILIES, VOCAB, tiny


def rows(count: int = 11, seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 12, count)
    inputs = tuple(
        {"input_ids": rng.integers(5, VOCAB, n), "attention_mask": np.ones(n, dtype=np.int64)} for n in lengths
    )
    return Encoded(inputs, tuple(int(label) for label in rng.integers(0, CLASSES, count)))


def one_by_one(model: PreTrainedModel, encoded: Encoded) -> list[torch.Tensor]:
    """The definition: per example one backward pass, squares summed."""
    shape = Anatomy.of(model).shape
    totals = [torch.zeros(shape.layers, shape.heads), torch.zeros(shape.layers, shape.ffn), torch.zeros(shape.layers)]
    for inputs, label in zip(encoded.inputs, encoded.labels, strict=True):
        masks = Masks.ones(shape)
        gates = [gate.requires_grad_() for gate in (masks.heads, masks.neurons, masks.layers)]
        with masked(model, masks):
            logits = model(**{name: torch.tensor(values)[None] for name, values in inputs.items()}).logits
        gradients = torch.autograd.grad(cross_entropy(logits, torch.tensor([label])), gates)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient.square()
    return totals


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_figures_are_sums_of_squared_gradients_of_single_examples(family: str) -> None:
    model, _ = tiny(family)
    encoded = rows()
    found = fisher_importance(model, encoded, batch_size=4)
    expected = one_by_one(model, encoded)
    for places in sharing(model, Anatomy.of(model).layers):  # these are cut alike
        for reference in expected[:2]:
            reference[places] = reference[places].mean(0)
    for values, reference in zip((found.heads, found.neurons, found.layers), expected, strict=True):
        torch.testing.assert_close(torch.tensor(values), reference, rtol=1e-3, atol=1e-7)


def test_the_batch_size_does_not_matter_and_the_same_rows_give_the_same_figures() -> None:
    model, _ = tiny("bert")
    encoded = rows()
    first = fisher_importance(model, encoded, batch_size=3)
    assert first == fisher_importance(model, encoded, batch_size=3)
    np.testing.assert_allclose(first.heads, fisher_importance(model, encoded, batch_size=32).heads, rtol=1e-3)


def test_a_unit_that_does_nothing_has_no_importance() -> None:
    model, _ = tiny("bert")
    with torch.no_grad():
        linear(model, "bert.encoder.layer.1.output.dense").weight[:, 7] = 0
        linear(model, "bert.encoder.layer.2.attention.output.dense").weight[:, :8] = 0
    found = fisher_importance(model, rows())
    assert found.neurons[1][7] == 0
    assert found.heads[2][0] == 0
    assert min(found.heads[0]) > 0


def test_the_model_stays_as_it_was() -> None:
    model, _ = tiny("bert")
    model.train()
    before = [(parameter.clone(), parameter.requires_grad) for parameter in model.parameters()]
    fisher_importance(model, rows())
    assert model.training
    for parameter, (value, needs) in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.requires_grad == needs
        assert parameter.grad is None


def test_progress_counts_rows() -> None:
    seen: list[tuple[int, int]] = []
    fisher_importance(tiny("bert")[0], rows(11), batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_files_come_back_and_belong_to_weights_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "importance.json"
    importance = Importance(((0.5, 1e-9), (2.0, 3.0)), ((1.0,), (0.1,)), (4.0, 5.0))
    save_importance(path, importance, "w" * 64, "c" * 64)
    assert load_importance(path, "w" * 64, "c" * 64) == importance
    assert [file.name for file in tmp_path.iterdir()] == ["importance.json"]
    with pytest.raises(RunError, match="weights_sha256"):
        load_importance(path, "x" * 64, "c" * 64)
    with pytest.raises(RunError, match="calibration_sha256"):
        load_importance(path, "w" * 64, "x" * 64)
