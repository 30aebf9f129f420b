"""The torch runtime: artefacts are what was built, load without this process's model, and have the predicted size."""

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from evaluators.anatomy import Anatomy
from evaluators.runtimes.torch import METADATA, TorchRuntime, _available
from evaluators.transforms.base import apply
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.errors import ModelError
from tests.prunings import random_pruning
from tests.tiny_models import FAMILIES, LAYERS, tiny


def arrays(inputs: dict[str, torch.Tensor]) -> dict[str, NDArray[np.int64]]:
    return {name: tensor.numpy() for name, tensor in inputs.items()}


def member(family: str, seed: int) -> Member:
    shape = Anatomy.of(tiny(family)[0]).shape
    return Member((random_pruning(shape, seed), Quantization.uniform(shape)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_loaded_artefact_computes_what_was_built(family: str, seed: int) -> None:
    model, inputs = tiny(family)
    runtime = TorchRuntime()
    artefact = runtime.template(model).assemble(member(family, seed))
    found = runtime.load(artefact, threads=1)(arrays(inputs))
    expected = apply(member(family, seed), model)(**inputs).logits.detach().numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_identity_is_the_original(family: str) -> None:
    model, inputs = tiny(family)
    runtime = TorchRuntime()
    template = runtime.template(model)
    for identity in (Member((Pruning.identity(Anatomy.of(model).shape),)), Member(())):
        found = runtime.load(template.assemble(identity), threads=1)(arrays(inputs))
        assert np.array_equal(found, model(**inputs).logits.detach().numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_predicted_size_is_that_of_the_file(family: str) -> None:
    template = TorchRuntime().template(tiny(family)[0])
    for one in (Member(()), member(family, 0), member(family, 1), Member((Pruning((None,) * LAYERS),))):
        assert template.size(one) == pytest.approx(len(template.assemble(one)), rel=0.01)


def test_a_template_pickles_and_stays_as_it_was() -> None:
    model, _ = tiny("bert")
    template = TorchRuntime().template(model)
    first = template.assemble(member("bert", 0))
    template.assemble(member("bert", 1))
    template.size(member("bert", 1))
    assert template.assemble(member("bert", 0)) == first
    assert pickle.loads(pickle.dumps(template)).assemble(member("bert", 0)) == first


def test_a_half_precision_model_is_taken_in_fp32() -> None:
    model, inputs = tiny("bert")
    model = model.bfloat16()
    artefact = TorchRuntime().template(model).assemble(Member(()))
    assert {tensor.dtype for tensor in safetensors.torch.load(artefact).values()} == {torch.float32, torch.int64}
    expected = nn.Module.float(model)(**inputs).logits.detach().numpy()
    np.testing.assert_allclose(TorchRuntime().load(artefact, threads=1)(arrays(inputs)), expected, atol=1e-6)


def test_files_load_like_bytes_and_draw_no_random_numbers(tmp_path: Path) -> None:
    model, inputs = tiny("bert")
    runtime = TorchRuntime()
    artefact = runtime.template(model).assemble(member("bert", 0))
    (tmp_path / runtime.filename).write_bytes(artefact)
    state = torch.random.get_rng_state()
    found = runtime.load(tmp_path / runtime.filename, threads=1)(arrays(inputs))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(found, runtime.load(artefact, threads=1)(arrays(inputs)))


def test_without_cuda_the_cpu_takes_over_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _available.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, inputs = tiny("bert")
    artefact = TorchRuntime().template(model).assemble(Member(()))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            predictor = TorchRuntime().load(artefact, threads=1, device="cuda")
    assert predictor.device == torch.device("cpu")
    assert predictor(arrays(inputs)).shape == (5, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no CUDA device" in caplog.text


@pytest.mark.gpu
def test_cuda_computes_what_the_cpu_computes() -> None:
    model, inputs = tiny("bert")
    runtime = TorchRuntime()
    artefact = runtime.template(model).assemble(member("bert", 0))
    found = runtime.load(artefact, threads=1, device="cuda")(arrays(inputs))
    # Products of half precision: eleven bits of mantissa.
    np.testing.assert_allclose(found, runtime.load(artefact, threads=1)(arrays(inputs)), atol=2e-2)


def test_other_widths_are_refused() -> None:
    model, _ = tiny("bert")
    eight = Member((Quantization.uniform(Anatomy.of(model).shape, 8),))
    with pytest.raises(ModelError, match="32 bits only"):
        TorchRuntime().template(model).assemble(eight)


def with_origin(artefact: bytes, **changes: object) -> bytes:
    length = int.from_bytes(artefact[:8], "little")
    origin = json.loads(json.loads(artefact[8 : 8 + length])["__metadata__"][METADATA])
    return safetensors.torch.save(safetensors.torch.load(artefact), {METADATA: json.dumps({**origin, **changes})})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "Trainer"}, "no model class 'Trainer'"),
        ({"design": {}}, "do not fit its design"),
    ],
)
def test_a_foreign_origin_is_refused(changes: dict[str, object], message: str) -> None:
    artefact = TorchRuntime().template(tiny("bert")[0]).assemble(member("bert", 0))
    with pytest.raises(ModelError, match=message):
        TorchRuntime().load(with_origin(artefact, **changes), threads=1)


def test_files_of_others_are_refused() -> None:
    with pytest.raises(ModelError, match="Not a safetensors file"):
        TorchRuntime().load(b"PK nonsense", threads=1)
    with pytest.raises(ModelError, match="no 'paretoformer'"):
        TorchRuntime().load(safetensors.torch.save({"x": torch.zeros(1)}), threads=1)
