"""Rounding while training: the runtime's arithmetic, straight-through gradients, and weights that stay in fp32."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from evaluators.anatomy import Anatomy, linear
from evaluators.codebook import codebook
from evaluators.runtimes.onnxruntime import lowering, quantize
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.training.rounding import (
    SMALLEST_HEAD,
    Rounding,
    SharedRows,
    by_block,
    by_output,
    by_range,
    straight_through,
)
from evaluators.transforms.base import build
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.axes.rare import RareTokens
from spaces.design import Member
from tests.prunings import random_pruning
from tests.tiny_models import FFN, HEADS, LAYERS, POSITIONS, TEXT_FAMILIES, VOCAB, tiny

WHOLE = LayerUnits(tuple(range(HEADS)), tuple(range(FFN)))
EIGHT = Quantization((LayerBits(8, 8),) * LAYERS, embeddings=8, head=8)


def matrix(rows: int, columns: int) -> NDArray[np.float32]:
    """Random, with rows of zeros and of one sign, and values on the edge between two codes."""
    rng = np.random.default_rng(rows * columns)
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    values[0], values[1] = 0, np.abs(values[1])
    values[2] = np.linspace(-127, 127, columns).round() / 2
    return values


@pytest.mark.parametrize("shape", [(5, 16), (7, 48), (4, 384), (3, 1000)])
def test_rounds_as_the_runtime_does(shape: tuple[int, int]) -> None:
    weight = matrix(*shape)  # (N, K)
    columns = quantize.by_column(weight.T)
    np.testing.assert_array_equal(by_output(torch.from_numpy(weight)).numpy(), (columns.values * columns.scales).T)
    for bits in (4, 8):
        expected = quantize.dequantized(quantize.by_block(weight, bits), bits, shape[1])
        np.testing.assert_array_equal(by_block(torch.from_numpy(weight), bits).numpy(), expected)


def test_rounds_what_enters_8_bits_as_onnx_does() -> None:
    """DynamicQuantizeLinear's definition, row by row; a row of zeros stays."""
    values = np.random.default_rng(0).standard_normal((4, 5, 16)).astype(np.float32)
    values[1], values[2] = 0, np.abs(values[2])
    expected = np.zeros_like(values)
    for row in (0, 2, 3):
        low, high = min(values[row].min(), 0), max(values[row].max(), 0)
        scale = np.float32(high - low) / np.float32(255)
        zero = np.clip(np.rint((0 - low) / scale), 0, 255)
        expected[row] = (np.clip(np.rint(values[row] / scale) + zero, 0, 255) - zero) * scale
    np.testing.assert_array_equal(by_range(torch.from_numpy(values)).numpy(), expected)


def test_a_narrow_head_is_the_same_here_as_in_the_artefact() -> None:
    assert SMALLEST_HEAD == lowering.SMALLEST_HEAD


def test_gradients_pass_straight_through() -> None:
    weight = torch.randn(6, 32, requires_grad=True)
    inputs, outer = torch.randn(3, 32), torch.randn(3, 6)
    rounded = straight_through(weight, by_output)
    assert torch.equal(rounded, by_output(weight.detach()))
    ((inputs @ rounded.T) * outer).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(weight.grad, outer.T @ inputs)


def test_inside_weights_are_rounded_and_outside_they_are_not() -> None:
    model, inputs = tiny("bert")
    name, table = Anatomy.of(model).layers[1].ffn_in, model.get_input_embeddings()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weight, vectors = linear(model, name).weight, table(inputs["input_ids"])
    logits = model(**inputs).logits
    with Rounding({name: 4}, {"bert.embeddings.word_embeddings": 8}).applied(model):
        assert torch.equal(linear(model, name).weight, by_block(weight.detach(), 4))
        expected = by_block(before["bert.embeddings.word_embeddings.weight"], 8)[inputs["input_ids"]]
        assert torch.equal(table(inputs["input_ids"]), expected)
        assert not torch.equal(model(**inputs).logits, logits)
    assert linear(model, name).weight is weight
    assert torch.equal(table(inputs["input_ids"]), vectors)
    assert torch.equal(model(**inputs).logits, logits)
    assert {key: value.dtype for key, value in model.state_dict().items()} == {k: v.dtype for k, v in before.items()}


def test_training_under_rounding_moves_the_weights_behind_it() -> None:
    model, inputs = tiny("bert")
    rounding = Rounding.of(EIGHT, model, range(LAYERS))
    with rounding.applied(model):
        model(**inputs).logits.square().sum().backward()
    for name in rounding.linears:
        gradient = linear(model, name).weight.grad
        assert gradient is not None
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_names_every_linear_and_table_of_a_whole_model(family: str) -> None:
    model, _ = tiny(family)
    anatomy = Anatomy.of(model)
    widths = Quantization((LayerBits(8, 4), LayerBits(32, 8), LayerBits(4, 32)), embeddings=4, head=8)
    rounding = Rounding.of(widths, model, range(LAYERS))
    first, second, third = anatomy.layers
    wide = [name for name in anatomy.head if linear(model, name).out_features >= SMALLEST_HEAD]
    assert rounding.linears == {
        **dict.fromkeys((*first.of_heads, first.attention_output), 8),
        **dict.fromkeys((*first.of_neurons, first.ffn_out), 4),
        **dict.fromkeys((*second.of_neurons, second.ffn_out), 8),
        **dict.fromkeys((*third.of_heads, third.attention_output), 4),
        **dict.fromkeys(wide, 8),
    }
    assert rounding.tables == dict.fromkeys(anatomy.embeddings, 4)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_names_what_is_left_of_a_pruned_model(family: str) -> None:
    model, inputs = tiny(family)
    layers = Anatomy.of(model).layers
    pruning = Pruning((LayerUnits((), (1, 2, 3)), None, LayerUnits((0, 2), ())))
    student = build(pruning, model)
    widths = Quantization((LayerBits(None, 4), None, LayerBits(8, None)), embeddings=32, head=32)
    rounding = Rounding.of(widths, student, (0, 2))
    four = [name for name, bits in rounding.linears.items() if bits == 4]
    assert four == [*layers[0].of_neurons, layers[0].ffn_out]
    assert sorted(rounding.linears.values()) == [4] * len(four) + [8] * (len(layers[2].of_heads) + 1)
    assert rounding.tables == {}
    with rounding.applied(student):
        assert student(**inputs).logits.isfinite().all()
    assert not any(isinstance(module, nn.utils.parametrize.ParametrizationList) for module in student.modules())


def test_nothing_is_rounded_in_32_bits_or_without_layers() -> None:
    model, _ = tiny("bert")
    whole = Quantization.uniform(Anatomy.of(model).shape)
    assert Rounding.of(whole, model, range(LAYERS)) == Rounding({}, {})
    assert Rounding.of(EIGHT, build(Pruning((None,) * LAYERS), model), ()).linears == {}


@pytest.mark.parametrize("bits", [8, 4])
def test_answers_as_the_artefact_does(bits: int) -> None:
    """Of one token at batch 1: an artefact leaves out what the head does not read, and ranges depend on the rest."""
    model, _ = tiny("bert")
    pruning = random_pruning(Anatomy.of(model).shape, seed=4)
    widths = Quantization.uniform(Anatomy.of(model).shape, bits)
    kept = [index for index, units in enumerate(pruning.layers) if units is not None]
    runtime, student = OnnxRuntime(), build(pruning, model)
    artefact = runtime.load(runtime.template(model).assemble(Member((pruning, widths))), threads=1)
    ids, mask = torch.arange(5, 15)[:, None], torch.ones(1, 1, dtype=torch.int64)
    tokens = [{"input_ids": token[None], "attention_mask": mask} for token in ids]
    expected = torch.cat([torch.from_numpy(artefact({n: v.numpy() for n, v in token.items()})) for token in tokens])
    with torch.no_grad():
        plain = torch.cat([student(**token).logits for token in tokens])
        with Rounding.of(widths, student, kept).applied(student):
            rounded = torch.cat([student(**token).logits for token in tokens])
    assert (rounded - expected).norm() < 0.3 * (plain - expected).norm()


def test_rows_of_rare_words_are_those_of_the_artefact() -> None:
    model, _ = tiny("bert")
    shape, words = Anatomy.of(model).shape, model.get_input_embeddings()
    table = words.weight.detach().numpy()
    ranking, exact = tuple(range(VOCAB - 1, -1, -1)), VOCAB // 2
    # Half of each row's numbers, so that nobody takes them for the table's own.
    book = codebook(table / 2, [token for token in range(VOCAB) if token not in ranking[:exact]])
    configs = (Pruning.identity(shape), Quantization.uniform(shape), RareTokens(exact))
    runtime = OnnxRuntime()
    artefact = runtime.load(runtime.template(model).with_vocabulary(ranking, book).assemble(Member(configs)), threads=1)
    ids = torch.arange(5, VOCAB)[None]
    inputs = {"input_ids": ids[:, : POSITIONS - 4], "attention_mask": torch.ones_like(ids[:, : POSITIONS - 4])}
    name = next(name for name, module in model.named_modules() if module is words)
    rounding = Rounding({}, {}, {name: SharedRows.of(RareTokens(exact), ranking, book)})
    with torch.no_grad():
        plain = model(**inputs).logits
        with rounding.applied(model):
            found = model(**inputs).logits
        assert torch.equal(model(**inputs).logits, plain)
    expected = artefact({name: values.numpy() for name, values in inputs.items()})
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    assert (found - plain).abs().max() > 1e-3
