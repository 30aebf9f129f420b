"""The onnxruntime runtime: the contract for every text family, rounding against definitions and the library's own."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer

from evaluators.anatomy import Anatomy
from evaluators.runtimes.base import Runtime
from evaluators.runtimes.onnxruntime import quantize
from evaluators.runtimes.onnxruntime.export import with_plain_weights
from evaluators.runtimes.onnxruntime.one_liner import one_liner
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime, _providers
from evaluators.runtimes.torch import TorchRuntime
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.design import Member
from spaces.errors import DesignError, ModelError
from tests.contracts.runtime import Model, RuntimeContract, arrays, members, torch_logits
from tests.tiny_models import FAMILIES, TEXT_FAMILIES, tiny


class TestOnnxRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> Runtime:
        return OnnxRuntime()

    @pytest.fixture(params=TEXT_FAMILIES)
    def model(self, request: pytest.FixtureRequest) -> Model:
        return tiny(request.param)


class TestTorchRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> Runtime:
        return TorchRuntime()

    @pytest.fixture
    def model(self) -> Model:
        return tiny("bert")


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_images_are_cut_too(family: str) -> None:
    model = tiny(family)
    template = OnnxRuntime().template(model[0])
    for name, member in members(template.shape).items():
        found = OnnxRuntime().load(template.assemble(member), threads=1)(arrays(model[1]))
        np.testing.assert_allclose(found, torch_logits(member, model), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_equal_weights_which_the_exporter_writes_once_are_found(family: str) -> None:
    model = tiny(family)
    with torch.no_grad():
        for name, parameter in model[0].named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    runtime = OnnxRuntime()
    template = runtime.template(model[0])
    found = runtime.load(template.assemble(Member((Pruning.identity(template.shape),))), threads=1)(arrays(model[1]))
    expected = torch_logits(Member((Pruning.identity(template.shape),)), model)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def as_written(artefact: bytes, inputs: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    """Logits of a session that rewrites nothing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(artefact, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], arrays(inputs))[0]
    return logits


def exported(model: Model) -> bytes:
    """What `torch.onnx.export` makes of the model as it comes."""

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = with_plain_weights(model[0])

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(**dict(zip(model[1], inputs, strict=True))).logits
            return logits

    model[0].set_attn_implementation("eager")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(),
            tuple(model[1].values()),
            buffer,  # type: ignore[arg-type]
            input_names=list(model[1]),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name, values in model[1].items() if values.ndim == 2},
            opset_version=21,
            dynamo=False,
        )
    return buffer.getvalue()


def test_a_model_that_reads_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("wav2vec2")[0]
    monkeypatch.setattr(type(model), "main_input_name", "input_features")
    with pytest.raises(ModelError, match="reads input_features"):
        OnnxRuntime().template(model)


def test_waves_of_any_length_are_read() -> None:
    model, _ = tiny("wav2vec2")
    predictor = OnnxRuntime().load(OnnxRuntime().template(model).untouched(), threads=1)
    for samples in (61, 400):
        waves = torch.randn(2, samples)
        with torch.inference_mode():
            expected = model(waves).logits
        np.testing.assert_allclose(predictor({"input_values": waves.numpy()}), expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_untouched_graph_is_the_exported_one_bit_by_bit(family: str) -> None:
    """Executed as written: what onnxruntime fuses in one graph and not in the other differs in the last bit."""
    model = tiny(family)
    untouched = OnnxRuntime().template(model[0]).untouched()
    found, expected = (as_written(artefact, model[1]) for artefact in (untouched, exported(model)))
    assert np.array_equal(found, expected)


def test_the_head_reads_the_first_token_and_nothing_computes_more() -> None:
    template = OnnxRuntime().template(tiny("bert")[0])
    whole = onnx.load_from_string(template.assemble(members(template.shape)["identity"])).graph
    untouched = onnx.load_from_string(template.untouched()).graph
    assert [node.output[0] for node in whole.node if node.op_type == "Gather" and node.input[1] == "first_token"] != []
    assert "first_token" not in {name for node in untouched.node for name in node.input}


def test_a_file_holds_nothing_of_what_is_gone() -> None:
    template = OnnxRuntime().template(tiny("bert")[0])
    graph = onnx.load_from_string(template.assemble(members(template.shape)["no attention"])).graph
    assert not [node.op_type for node in graph.node if node.op_type == "Softmax"]
    assert not [tensor.name for tensor in graph.initializer if "attention.self" in tensor.name]
    assert not graph.value_info


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_the_predicted_size_is_exact(family: str) -> None:
    template = OnnxRuntime().template(tiny(family)[0])
    for bits in (32, 8, 4):
        for name, member in members(template.shape, bits).items():
            assert template.size(member) == len(template.assemble(member)), f"{name} in {bits} bits"


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_layers_that_share_their_weights_store_them_once_where_they_are_cut_alike(bits: int) -> None:
    model, _ = tiny("albert")
    template = OnnxRuntime().template(model)
    some, other = LayerUnits((0, 3), (2, 4, 9)), LayerUnits((1, 3), (2, 5, 9))
    widths = Quantization.uniform(template.shape, bits)
    alike, apart = (
        onnx.load_from_string(template.assemble(Member((Pruning((some, second, some)), widths)))).graph
        for second in (some, other)
    )
    stored = [len([t for t in graph.initializer if ".layers." in t.name]) for graph in (alike, apart)]
    single = template.assemble(Member((Pruning((some, None, some)), widths)))
    assert stored[0] == len([t for t in onnx.load_from_string(single).graph.initializer if ".layers." in t.name])
    assert stored[1] > stored[0]


def test_files_are_valid_onnx() -> None:
    """Written by hand, byte by byte what protobuf itself writes for the same content."""
    template = OnnxRuntime().template(tiny("bert")[0])
    artefact = template.untouched()
    model = onnx.load_from_string(artefact)
    onnx.checker.check_model(onnx.load_from_string(template.assemble(members(template.shape, 32)["random 0"])))
    assert len(model.SerializeToString()) == len(artefact)
    assert onnx.load_from_string(model.SerializeToString()) == model


def random_matrix(rows: int, columns: int) -> NDArray[np.float32]:
    return np.random.default_rng(rows * 1000 + columns).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(32, 48), (5, 1), (1, 7)])
def test_int8_columns_err_by_half_a_step_at_most(rows: int, columns: int) -> None:
    matrix = random_matrix(rows, columns)
    matrix[:, 0] = 0
    rounded = quantize.by_column(matrix)
    np.testing.assert_allclose(rounded.scales[1:], np.abs(matrix).max(axis=0)[1:] / 127, rtol=1e-6)
    assert (np.abs(rounded.values * rounded.scales - matrix) <= rounded.scales * 0.5001).all()


@pytest.mark.parametrize(("count", "length"), [(6, 256), (6, 40), (1, 3), (3, 130)])
def test_eight_bit_blocks_err_by_half_a_step_at_most(count: int, length: int) -> None:
    rows = random_matrix(count, length)
    blocks = quantize.by_block(rows, 8)
    steps = np.repeat(blocks.scales, quantize.block_size(length), axis=1)[:, :length]
    assert (np.abs(quantize.dequantized(blocks, 8, length) - rows) <= steps * 0.5001).all()


@pytest.mark.parametrize(("count", "length"), [(6, 256), (6, 40), (1, 3), (3, 130)])
def test_four_bit_blocks_err_by_one_step_at_most_and_keep_the_extreme(count: int, length: int) -> None:
    rows = random_matrix(count, length)
    blocks = quantize.by_block(rows, 4)
    found = quantize.dequantized(blocks, 4, length)
    steps = np.abs(np.repeat(blocks.scales, quantize.block_size(length), axis=1)[:, :length])
    assert (np.abs(found - rows) <= steps * 1.0001).all()
    extreme = np.abs(rows).argmax(axis=1)
    if length <= quantize.LARGEST_BLOCK:
        np.testing.assert_allclose(found[range(count), extreme], rows[range(count), extreme], rtol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(256, 8), (40, 8), (130, 3)])
def test_four_bit_codes_are_those_of_the_library(rows: int, columns: int) -> None:
    matrix = random_matrix(rows, columns)
    config = DefaultWeightOnlyQuantConfig(block_size=quantize.block_size(rows), is_symmetric=True, bits=4)
    codes, scales, _ = DefaultWeightOnlyQuantizer(config).qbits_block_quant(matrix)
    found = quantize.by_block(np.ascontiguousarray(matrix.T), 4)
    ours, theirs = (quantize.unpack(packed).reshape(columns, -1)[:, :rows] for packed in (found.codes, codes))
    assert np.array_equal(ours, theirs)
    np.testing.assert_allclose(found.scales, scales, rtol=1e-6)


def test_packing_is_undone_by_unpacking() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(4, 64) % 16
    packed = quantize.pack(codes)
    assert packed[0, 0] == codes[0, 0] + 16 * codes[0, 1]
    assert np.array_equal(quantize.unpack(packed), codes)


def test_a_cut_is_rounded_like_a_matrix_of_its_own() -> None:
    """Quantized columns of the whole, and rows anew, equal the pieces quantized by themselves."""
    from evaluators.runtimes.onnxruntime.weights import Matrix

    values, bias = random_matrix(64, 48), random_matrix(1, 48)[0]
    for rows, columns in ((None, [1, 5, 40]), ([0, 3, 63], None), (None, None)):
        cut = Matrix(values, bias).cut(rows, columns)
        piece = values[rows] if rows else values[:, columns] if columns else values
        int8, scales = cut.eight()
        assert np.array_equal(int8.values(), quantize.by_column(piece).values)
        np.testing.assert_allclose(scales.values(), quantize.by_column(piece).scales, rtol=1e-6)
        codes, steps, _ = cut.four()
        assert np.array_equal(codes.values(), quantize.by_block(np.ascontiguousarray(piece.T), 4).codes)
        assert (codes.shape, steps.shape) == (codes.values().shape, steps.values().shape)


def int8_layers(family: str) -> tuple[bytes, Member]:
    template = OnnxRuntime().template(tiny(family)[0])
    layers = (LayerBits(8, 8),) * template.shape.layers
    return template.untouched(), Member((Quantization(layers, 32, 32),))


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_eight_bits_agree_with_quantize_dynamic(family: str, tmp_path: Path) -> None:
    """The same rounding of weights; activations differ where only the first token is computed."""
    model = tiny(family)
    fp32, member = int8_layers(family)
    (tmp_path / "fp32.onnx").write_bytes(fp32)
    quantize_dynamic(
        tmp_path / "fp32.onnx",
        tmp_path / "int8.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
    )
    expected = OnnxRuntime().load(tmp_path / "int8.onnx", threads=1)(arrays(model[1]))
    found = OnnxRuntime().load(OnnxRuntime().template(model[0]).assemble(member), threads=1)(arrays(model[1]))
    original = torch_logits(Member(()), model)
    error = np.abs(expected - original).max()
    assert error > 0
    np.testing.assert_allclose(found, expected, atol=2 * error)
    assert np.abs(found - original).max() <= 2 * error


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_tables_give_rounded_embeddings(bits: int) -> None:
    """Only the tables are rounded: logits equal those of a torch model with the dequantized tables."""
    model = tiny("bert")
    template = OnnxRuntime().template(model[0])
    shape = template.shape
    member = Member((Quantization((LayerBits(32, 32),) * shape.layers, bits, 32),))
    found = OnnxRuntime().load(template.assemble(member), threads=1)(arrays(model[1]))
    rounded = tiny("bert")
    with torch.no_grad():
        for name in Anatomy.of(rounded[0]).embeddings:
            weight = rounded[0].get_submodule(name).weight
            assert isinstance(weight, torch.Tensor)
            blocks = quantize.by_block(weight.numpy(), bits)
            weight.copy_(torch.from_numpy(quantize.dequantized(blocks, bits, weight.shape[1])))
    np.testing.assert_allclose(found, torch_logits(Member(()), rounded), atol=1e-5)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.05), (4, 0.5)])
def test_logits_move_little(bits: int, share: float) -> None:
    model = tiny("bert")
    template = OnnxRuntime().template(model[0])
    member = Member((Quantization.uniform(template.shape, bits),))
    found = OnnxRuntime().load(template.assemble(member), threads=1)(arrays(model[1]))
    expected = torch_logits(Member(()), model)
    assert np.sqrt(np.mean((found - expected) ** 2)) < share * expected.std()


def test_widths_mix_in_one_graph() -> None:
    model = tiny("bert")
    template = OnnxRuntime().template(model[0])
    member = Member((Quantization((LayerBits(32, 8), LayerBits(4, 32), LayerBits(8, 4)), 4, 8),))
    kinds = [node.op_type for node in onnx.load_from_string(template.assemble(member)).graph.node]
    assert {"MatMul", "DynamicQuantizeMatMul", "MatMulNBits", "GatherBlockQuantized"} <= set(kinds)
    assert OnnxRuntime().load(template.assemble(member), threads=1)(arrays(model[1])).shape == (5, 3)


def test_the_one_liner_is_the_library_s_own() -> None:
    model = tiny("bert")
    fp32 = OnnxRuntime().template(model[0]).untouched()
    artefact = one_liner(fp32)
    assert len(artefact) < 0.75 * len(fp32)
    kinds = {node.op_type for node in onnx.load_from_string(artefact).graph.node}
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= kinds
    found = OnnxRuntime().load(artefact, threads=1)(arrays(model[1]))
    np.testing.assert_allclose(found, torch_logits(Member(()), model), atol=0.3)


def test_designs_of_other_models_are_refused() -> None:
    template = OnnxRuntime().template(tiny("bert")[0])
    whole = LayerUnits((0,), (0,))
    with pytest.raises(DesignError, match="prunes 2 layers"):
        template.assemble(Member((Pruning((whole, whole)),)))
    widths = Quantization((LayerBits(None, 8),) * 3)
    with pytest.raises(DesignError, match="attention block of layer 0 None bits"):
        template.size(Member((widths,)))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="These bytes are not a model"):
        OnnxRuntime().load(b"PK nonsense", threads=1)
    with pytest.raises(ModelError, match=r"absent\.onnx is not a model"):
        OnnxRuntime().load(tmp_path / "absent.onnx", threads=1)


def test_without_cuda_the_cpu_takes_over_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _providers.cache_clear()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    model = tiny("bert")
    artefact = OnnxRuntime().template(model[0]).assemble(Member(()))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            predictor = OnnxRuntime().load(artefact, threads=1, device="cuda")
    assert predictor(arrays(model[1])).shape == (5, 3)
    assert ["no CUDAExecutionProvider" in record.message for record in caplog.records] == [True]
