"""Smoothed inputs of 8-bit linears: the spreads are those of the definition, and what is rounded comes nearer."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.runtimes.base import Smooths
from evaluators.runtimes.onnxruntime.quantize import smoothing
from evaluators.runtimes.onnxruntime.random_encoder import random_encoder
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.onnxruntime.template import OnnxTemplate
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.base import Encoded
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from tests.prunings import random_pruning
from tests.tiny_models import FFN, HEADS, VOCAB, tiny


def rows(n: int, seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(1, VOCAB, size=rng.integers(2, 12)) for _ in range(n)]
    return Encoded(tuple({"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids), (), pad_id=0)


def smoothed(template: OnnxTemplate) -> OnnxTemplate:
    return template.smoothing(template.spreads_on(rows(20), lambda *_: None))


def in_bits(template: OnnxTemplate, bits: int, pruning: Pruning | None = None) -> Member:
    shape = template.shape
    return Member((pruning or Pruning.identity(shape), Quantization.uniform(shape, bits)))


def uneven() -> Any:
    """A BERT some of whose states and neurons are far wider than others, as those of trained ones are."""
    model, _ = tiny("bert")
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                module.weight[3] = 20.0
            if name.endswith("intermediate.dense"):
                module.weight[5] *= 20
    return model


def test_smoothing_evens_out_what_is_wide_and_is_exact() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 4)).astype(np.float32)
    matrix[4] = 0
    spread = np.array([1, 64, 1, 0, 1, 1], np.float32)
    found = smoothing(spread, matrix)
    assert np.argmax(found) == 1
    assert np.ptp(np.log2(spread[:3] / found[:3])) < np.ptp(np.log2(spread[:3]))
    assert (np.log2(found) % 1 == 0).all()
    assert found[3] == found[4] == 1  # nothing enters, or nothing is made of it
    inputs = rng.normal(size=(5, 6)).astype(np.float32)
    assert ((inputs / found) * found == inputs).all()


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_spreads_are_root_mean_squares_over_real_tokens(family: str) -> None:
    model, _ = tiny(family)
    template, seen = OnnxRuntime().template(model), list[torch.Tensor]()
    found = template.spreads_on(data := rows(7), lambda *_: None)
    name = next(name for name in found if name.endswith(("output.dense", "ffn_output")) and "attention" not in name)
    module = next(module for other, module in model.named_modules() if other.endswith(name.removeprefix("bert.")))
    for other in model.modules():  # in ALBERT all layers share one weight
        if getattr(other, "weight", None) is module.weight:
            other.register_forward_pre_hook(lambda _, entering: seen.append(entering[0].flatten(0, 1)))
    with torch.no_grad():
        for batch in data.batches(1):
            model(**{key: torch.from_numpy(values) for key, values in batch.items()})
    np.testing.assert_allclose(found[name], torch.cat(seen).square().mean(0).sqrt().numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("cut", [False, True])
def test_answers_in_8_bits_come_nearer_to_those_in_32(cut: bool) -> None:
    runtime, template, data = OnnxRuntime(), OnnxRuntime().template(uneven()), rows(60, seed=1)
    half = Pruning((LayerUnits(tuple(range(HEADS)), tuple(range(0, FFN, 2))),) * template.shape.layers)
    pruning = half if cut else None

    def answers(bits: int, each: OnnxTemplate) -> Any:
        loaded = runtime.load(each.assemble(in_bits(each, bits, pruning)), threads=1)
        return np.concatenate([loaded(batch) for batch in data.batches(1)])

    exact = answers(32, template)
    plain, smooth = (np.square(answers(8, each) - exact).mean() for each in (template, smoothed(template)))
    assert smooth < 0.5 * plain


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_bytes_are_foreseen_and_other_widths_stay_as_they_were(bits: int) -> None:
    template = OnnxRuntime().template(tiny("bert")[0])
    smooth, member = smoothed(template), in_bits(template, bits, random_pruning(template.shape, seed=3))
    assert smooth.size(member) == len(smooth.assemble(member))
    assert (smooth.assemble(member) == template.assemble(member)) == (bits != 8)
    assert smooth.untouched() == template.untouched()


def test_a_machine_is_profiled_with_what_smoothing_costs() -> None:
    template = OnnxRuntime().template(tiny("bert")[0])
    alike = random_encoder(template.shape, seed=0)
    assert isinstance(alike, Smooths)
    assert alike.spreads.keys()
    assert alike.assemble(in_bits(alike, 8)).count(b".smooth") > 0


def test_a_runtime_without_8_bits_smooths_nothing() -> None:
    assert not isinstance(TorchRuntime().template(tiny("bert")[0]), Smooths)
