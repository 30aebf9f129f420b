"""How much each head, neuron and layer matters (Fisher information). Knows gates and losses; knows no cuts."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, sharing
from evaluators.tasks.base import Encoded
from evaluators.training.schedule import as_batch, outputs_of
from evaluators.transforms.masks import Masks, masked
from spaces.axes.pruning import Importance, Pruning
from spaces.errors import RunError
from spaces.whole import write_whole


def fisher_importance(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    left: Pruning | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """Diagonal of the empirical Fisher information of the gates: sum over examples of (dL_n/dgate)^2.

    Kwon et al. 2022, "A Fast Post-Training Pruning Framework for Transformers" (arXiv 2204.09656).
    L_n is the loss of example n; every example has its own gates, so one backward pass per batch
    yields the gradients of each example. The same rows give the same figures. Heads and neurons of layers that share
    their weights get the mean over these layers, so that what goes goes from all and the rest stays shared.

    Args:
        model: a classifier; stays as it was.
        encoded: rows of the calibration split, with labels if there are any.
        left: what is there; the gates of what is gone are 0, and their figures mean nothing. None: all is there.
        batch_size: rows per backward pass; does not change the figures.
        progress: called with (rows done, rows in all) after each batch.
    """
    frozen = copy.deepcopy(model).train(False).requires_grad_(False)
    anatomy = Anatomy.of(frozen)
    shape = anatomy.shape
    gates = Masks.of(left or Pruning.identity(shape), shape, device=frozen.device)
    totals = [torch.zeros(shape.layers, *units, dtype=torch.float64) for units in ((shape.heads,), (shape.ffn,), ())]
    encoded = encoded if encoded.labels else _sampled(frozen, encoded)
    rows = encoded.take(sorted(range(len(encoded)), key=encoded.lengths.__getitem__))  # batches hold little padding
    for group in rows.groups(batch_size):
        some = rows.take(group)
        tensors = as_batch(some, str(frozen.device))
        for total, gradients in zip(totals, _gradients(frozen, gates, tensors, some), strict=True):
            total += gradients.double().square().sum(1).cpu()  # (L, B, ...) to (L, ...)
        if progress is not None:
            progress(group[-1] + 1, len(rows))
    for positions in sharing(frozen, anatomy.layers):
        for total in totals[:2]:
            total[positions] = total[positions].mean(0)
    heads, neurons, layers = (total.tolist() for total in totals)
    return Importance(tuple(map(tuple, heads)), tuple(map(tuple, neurons)), tuple(layers))


def _sampled(model: PreTrainedModel, encoded: Encoded, batch_size: int = 32) -> Encoded:
    """Rows that nobody labelled, with labels drawn from what the model itself says: of such labels Fisher's information
    is made (Kunstner et al. 2019, arXiv 1905.12558), where the likeliest ones would have no gradient."""
    found = list[NDArray[np.float32]]()
    with torch.no_grad():
        for inputs in encoded.batches(batch_size):
            tensors = {name: torch.from_numpy(values).to(model.device) for name, values in inputs.items()}
            found.append(model(**tensors).logits.cpu().numpy())
    drawn = encoded.problem.drawn(encoded.outputs(found), np.random.default_rng(0))
    return replace(encoded, labels=tuple(tuple(each) if isinstance(each, list) else each for each in drawn.tolist()))


def _gradients(model: PreTrainedModel, masks: Masks, inputs: dict[str, Tensor], rows: Encoded) -> tuple[Tensor, ...]:
    """Per example, the gradient of its loss by its gates: heads (L, B, H), neurons (L, B, F), layers (L, B)."""
    own, labels = masks.per_example(len(rows)), torch.tensor(rows.labels, device=model.device)
    gates = own.heads.requires_grad_(), own.neurons.requires_grad_(), own.layers.requires_grad_()
    with masked(model, own):
        logits = outputs_of(rows, model(**inputs).logits)  # (B, ...)
    # An example's gates touch its own loss only, so the gradient of the sum holds every example's own.
    return torch.autograd.grad(rows.problem.losses(logits, labels).sum(), gates)


def save_importance(path: Path, importance: Importance, weights_sha: str, calibration_sha: str) -> None:
    """Write the rankings as JSON, with the hashes of what they were computed from."""
    content = {"weights_sha256": weights_sha, "calibration_sha256": calibration_sha, **asdict(importance)}
    write_whole(path, json.dumps(content, allow_nan=False))


def load_importance(path: Path, weights_sha: str, calibration_sha: str) -> Importance:
    """Read the rankings back.

    Raises:
        RunError: they were computed from other weights or other rows.
    """
    content = json.loads(path.read_text())
    for name, expected in (("weights_sha256", weights_sha), ("calibration_sha256", calibration_sha)):
        if content[name] != expected:
            raise RunError(f"{path} has {name}={content[name]}, this run {expected}. Start a new run folder (--out).")
    heads, neurons, layers = content["heads"], content["neurons"], content["layers"]
    return Importance(tuple(map(tuple, heads)), tuple(map(tuple, neurons)), tuple(layers))
