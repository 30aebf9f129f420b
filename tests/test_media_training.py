"""What changes weights, on rows that are files: images of one size, waves of many lengths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluators.importance import fisher_importance
from evaluators.models import load_classifier
from evaluators.moments import inverse_moments
from evaluators.problems.base import mean_divergence
from evaluators.refit import Refit
from evaluators.tasks.base import Encoded, Rows, encode
from evaluators.training.distill import DistillSettings, distill
from evaluators.training.teacher import Teacher
from evaluators.transforms.base import build
from spaces.axes.pruning import LayerUnits, Pruning
from tests.tiny_files import write_image_model, write_images, write_sound_model, write_sounds

CUT = Pruning((LayerUnits((0, 1, 3), tuple(range(40))), LayerUnits((0, 2), tuple(range(30))), None))


@pytest.fixture(params=["vit", "ast", "wav2vec2"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Encoded]:
    """A random classifier, and rows that it reads."""
    images = request.param == "vit"
    folder = (write_images if images else write_sounds)(tmp_path / "rows", rows=24)
    source = (write_image_model if images else write_sound_model)(tmp_path / "model", request.param)
    model, reader = load_classifier(str(source), ("a", "b", "c"))
    files = sorted(folder.rglob("*.*"))
    return model, encode(Rows(tuple(map(str, files)), tuple(row % 3 for row in range(24))), reader, max_length=0)


def outputs(model: Any, rows: Encoded) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate(
            [
                model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits.numpy()
                for batch in rows.batches(1)
            ]
        )


def divergence(one: Any, other: Any, rows: Encoded) -> float:
    return mean_divergence(rows.problem, outputs(one, rows), outputs(other, rows))


def test_what_is_left_is_refitted(case: tuple[Any, Encoded]) -> None:
    model, rows = case
    plain = build(CUT, model)
    assert divergence(model, Refit(model, rows, "cpu")(build(CUT, model), (0, 1)), rows) < divergence(
        model, plain, rows
    )


def test_a_student_learns_from_states_and_attention(case: tuple[Any, Encoded]) -> None:
    model, rows = case
    student = build(CUT, model)
    layers, settings = (0, 1, 2), DistillSettings(epochs=6, learning_rate=1e-3, attention=1.0, held_out=0.3)
    teacher = Teacher.of(model, rows, hidden_layers=layers, attention_layers=layers)
    done = distill(student, teacher, rows, {0: 0, 1: 1}, settings, seed=0)
    assert done.epochs[done.best].held_out_kl < done.untrained_kl
    assert done.epochs[-1].train_loss < done.epochs[0].train_loss


def test_importance_and_moments_do_not_depend_on_the_batch(case: tuple[Any, Encoded]) -> None:
    model, rows = case
    one, many = (fisher_importance(model, rows, batch_size=size) for size in (1, 8))
    np.testing.assert_allclose(np.array(one.heads), np.array(many.heads), rtol=1e-3)
    single, several = (inverse_moments(model, rows, first_token=False, batch_size=size) for size in (1, 8))
    for name in single:
        np.testing.assert_allclose(single[name], several[name], rtol=1e-3, atol=1e-3 * np.abs(several[name]).max())
