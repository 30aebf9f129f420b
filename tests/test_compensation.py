"""Standing in for what goes: the least-squares optimum, better than nothing, and the same in every runtime."""

import copy

import numpy as np
import pytest
import torch

from evaluators.anatomy import Anatomy, linear
from evaluators.compensation import compensated, inverted
from evaluators.moments import inverse_moments
from evaluators.runtimes.base import Runtime
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.base import Encoded
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization, forget_absent_parts
from spaces.design import Member
from tests.prunings import random_pruning
from tests.tiny_models import FFN, HEADS, VOCAB, tiny

RNG = np.random.default_rng(0)
INPUTS, OUTPUTS, ROWS = 12, 5, 4000


@pytest.fixture(scope="module")
def linear_map() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated inputs (ROWS, INPUTS), a matrix and a bias."""
    mixing = RNG.normal(size=(INPUTS, INPUTS))
    entering = RNG.normal(size=(ROWS, INPUTS)) @ mixing + 1.0
    return entering, RNG.normal(size=(INPUTS, OUTPUTS)).astype(np.float32), RNG.normal(size=OUTPUTS).astype(np.float32)


@pytest.mark.parametrize("kept", [list(range(6)), [0, 3, 11], list(range(1, INPUTS))])
def test_what_stays_is_the_least_squares_fit_of_all(linear_map: tuple[np.ndarray, ...], kept: list[int]) -> None:
    entering, matrix, bias = linear_map
    extended = np.concatenate([entering, np.ones((ROWS, 1))], axis=1)
    refitted, constant = compensated(matrix, bias, np.linalg.inv(extended.T @ extended), kept)
    goal = entering @ matrix + bias
    best, *_ = np.linalg.lstsq(extended[:, [*kept, INPUTS]], goal, rcond=None)
    np.testing.assert_allclose(refitted, best[:-1], atol=1e-4)
    np.testing.assert_allclose(constant, best[-1], atol=1e-4)


def test_damping_keeps_singular_moments_invertible() -> None:
    moments = np.zeros((4, 4))
    moments[:2, :2] = [[2.0, 2.0], [2.0, 2.0]]
    moments[3, 3] = 1.0
    assert np.isfinite(inverted(moments)).all()


def calibration(n: int = 64) -> Encoded:
    lengths = RNG.integers(4, 30, n)
    inputs = tuple(
        {"input_ids": RNG.integers(5, VOCAB, length), "attention_mask": np.ones(length, dtype=np.int64)}
        for length in lengths
    )
    return Encoded(inputs, (0,) * n)


def test_moments_are_of_the_tokens_that_count() -> None:
    model, _ = tiny("bert")
    rows, seen = calibration(5), []
    name = Anatomy.of(model).layers[1].ffn_out
    found = inverse_moments(model, rows, first_token=True, batch_size=2)
    hook = linear(model, name).register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0][0]))
    with torch.inference_mode():
        for batch in rows.batches(1):
            model(**{key: torch.from_numpy(values) for key, values in batch.items()})
    hook.remove()
    tokens = torch.cat(seen).double()  # without padding
    tokens = torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1)
    np.testing.assert_allclose(found[name], inverted((tokens.T @ tokens).numpy()), rtol=1e-2, atol=1e-3)


def test_the_model_stays_as_it_was() -> None:
    model, _ = tiny("bert")
    before = copy.deepcopy(model.state_dict())
    inverse_moments(model, calibration(4), first_token=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_every_runtime_compensates_alike() -> None:
    model, _ = tiny("bert")
    moments = inverse_moments(model, calibration(), first_token=True)
    shape = Anatomy.of(model).shape
    pruning = random_pruning(shape, seed=3)
    member = Member(forget_absent_parts((pruning, Quantization.uniform(shape))))
    (batch,) = calibration(6).batches(6)
    logits = []
    for runtime in (OnnxRuntime(), TorchRuntime()):
        template = runtime.template(model).compensating(moments)
        logits.append(runtime.load(template.assemble(member), threads=1)(batch))
        assert abs(template.size(member) / len(template.assemble(member)) - 1) < 0.01
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-4)


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_members_come_nearer_to_the_original(runtime: Runtime) -> None:
    model, _ = tiny("bert")
    rows = calibration(200)
    moments = inverse_moments(model, rows, first_token=True)
    plain = runtime.template(model)
    half = LayerUnits(tuple(range(HEADS)), tuple(range(0, FFN, 2)))
    shape = plain.shape
    member = Member((Pruning((half,) * shape.layers), Quantization.uniform(shape)))
    batch = next(rows.batches(200))
    goal = runtime.load(plain.untouched(), threads=1)(batch)
    errors = [
        np.abs(runtime.load(template.assemble(member), threads=1)(batch) - goal).mean()
        for template in (plain, plain.compensating(moments))
    ]
    assert errors[1] < 0.7 * errors[0]


def test_the_whole_model_is_not_touched() -> None:
    model, _ = tiny("bert")
    template = OnnxRuntime().template(model)
    moments = inverse_moments(model, calibration(8), first_token=True)
    identity = Member((Pruning.identity(template.shape), Quantization.uniform(template.shape)))
    assert template.compensating(moments).assemble(identity) == template.assemble(identity)
    assert template.compensating(moments).untouched() == template.untouched()
