"""What every runtime does. Subclasses give `runtime` and `model`: a classifier with inputs (B, T), some rows padded."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.runtimes.base import PLAIN, Runtime
from evaluators.transforms.base import apply
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.shape import ModelShape
from tests.prunings import random_pruning

Model = tuple[PreTrainedModel, dict[str, torch.Tensor]]


def arrays(inputs: dict[str, torch.Tensor]) -> dict[str, NDArray[np.int64]]:
    return {name: tensor.numpy() for name, tensor in inputs.items()}


def torch_logits(member: Member, model: Model) -> NDArray[np.float32]:
    """Those of the torch model that the member's pruning makes."""
    pruned = Member(tuple(config for config in member.configs if isinstance(config, Pruning)))
    with torch.inference_mode():
        logits: NDArray[np.float32] = apply(pruned, model[0])(**model[1]).logits.numpy()
    return logits


def members(shape: ModelShape, bits: int = 32) -> dict[str, Member]:
    """The identity, everything gone, and random cuts that cover missing blocks and layers."""
    whole = LayerUnits(tuple(range(shape.heads)), tuple(range(shape.ffn)))
    prunings = {
        "identity": Pruning.identity(shape),
        "one head": Pruning((LayerUnits((1,), (0,)),) * shape.layers),
        "no attention": Pruning((LayerUnits((), whole.neurons),) * shape.layers),
        "no ffn": Pruning((LayerUnits(whole.heads, ()),) * shape.layers),
        "first layer": Pruning((whole, *(None,) * (shape.layers - 1))),
        "last layer": Pruning((*(None,) * (shape.layers - 1), whole)),
        "nothing": Pruning((None,) * shape.layers),
        **{f"random {seed}": random_pruning(shape, seed) for seed in range(3)},
    }
    return {name: Member((pruning, Quantization.uniform(shape, bits))) for name, pruning in prunings.items()}


class RuntimeContract:
    """Artefacts compute what torch computes, have the predicted size, and leave the template as it was."""

    @pytest.fixture
    def shape(self, model: Model) -> ModelShape:
        return Anatomy.of(model[0]).shape

    def test_the_identity_is_the_original(self, runtime: Runtime, model: Model, shape: ModelShape) -> None:
        template, expected = runtime.template(model[0]), torch_logits(Member(()), model)
        for member in (Member(()), members(shape)["identity"]):
            found = runtime.load(template.assemble(member), threads=1)(arrays(model[1]))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_a_cut_member_is_the_built_model(self, runtime: Runtime, model: Model, shape: ModelShape) -> None:
        template = runtime.template(model[0])
        for name, member in members(shape).items():
            found = runtime.load(template.assemble(member), threads=1)(arrays(model[1]))
            np.testing.assert_allclose(found, torch_logits(member, model), atol=1e-4, err_msg=name)

    def test_every_graph_answers_alike_in_as_many_bytes(
        self, runtime: Runtime, model: Model, shape: ModelShape
    ) -> None:
        template = runtime.template(model[0])
        assert template.graphs[0] == PLAIN
        for bits in runtime.bits:
            member = members(shape, bits)["random 0"]
            artefacts = [template.assemble(member, graph) for graph in template.graphs]
            found = [runtime.load(artefact, threads=1)(arrays(model[1])) for artefact in artefacts]
            for logits, artefact in zip(found, artefacts, strict=True):
                np.testing.assert_allclose(logits, found[0], atol=1e-3)
                assert len(artefact) == len(artefacts[0])

    def test_the_template_stays_as_it_was_and_pickles(self, runtime: Runtime, model: Model, shape: ModelShape) -> None:
        template = runtime.template(model[0])
        one, other = (members(shape, min(runtime.bits))[name] for name in ("random 0", "random 1"))
        first = template.assemble(one)
        template.assemble(other)
        template.size(other)
        assert template.assemble(one) == first
        again = pickle.loads(pickle.dumps(template))
        assert again.assemble(one) == first

    def test_the_model_stays_as_it_was(self, runtime: Runtime, model: Model) -> None:
        before = {name: tensor.clone() for name, tensor in model[0].state_dict().items()}
        attention = model[0].config._attn_implementation
        runtime.template(model[0]).assemble(Member(()))
        after = model[0].state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert model[0].config._attn_implementation == attention

    def test_the_predicted_size_is_that_of_the_file(self, runtime: Runtime, model: Model, shape: ModelShape) -> None:
        template = runtime.template(model[0])
        for bits in runtime.bits:
            for name, member in members(shape, bits).items():
                found, expected = template.size(member), len(template.assemble(member))
                assert found == pytest.approx(expected, rel=0.01), f"{name} in {bits} bits"

    def test_bytes_and_files_load_alike(
        self, runtime: Runtime, model: Model, shape: ModelShape, tmp_path: Path
    ) -> None:
        artefact = runtime.template(model[0]).assemble(members(shape)["random 0"])
        (tmp_path / runtime.filename).write_bytes(artefact)
        from_file = runtime.load(tmp_path / runtime.filename, threads=1)(arrays(model[1]))
        assert np.array_equal(from_file, runtime.load(artefact, threads=1)(arrays(model[1])))

    def test_every_width_runs(self, runtime: Runtime, model: Model, shape: ModelShape) -> None:
        template = runtime.template(model[0])
        assert list(runtime.bits) == sorted(runtime.bits, reverse=True)
        for bits in runtime.bits:
            for name, member in members(shape, bits).items():
                found = runtime.load(template.assemble(member), threads=1)(arrays(model[1]))
                assert np.isfinite(found).all(), f"{name} in {bits} bits"

    def test_padding_and_batching_change_no_fp32_answer(
        self, runtime: Runtime, model: Model, shape: ModelShape
    ) -> None:
        predictor = runtime.load(runtime.template(model[0]).assemble(members(shape)["random 0"]), threads=1)
        inputs = arrays(model[1])
        together = predictor(inputs)
        for row, length in enumerate(inputs["attention_mask"].sum(axis=1)):
            alone = predictor({name: values[row : row + 1, :length] for name, values in inputs.items()})
            np.testing.assert_allclose(alone[0], together[row], atol=1e-4)
