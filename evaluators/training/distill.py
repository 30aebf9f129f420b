"""Distillation: a pruned student learns the original's answers. Knows models, rows and epochs; knows no designs.

After FastFormers (Kim and Hassan 2020, arXiv 2010.13382), which distils again after pruning.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluators.anatomy import layer_names
from evaluators.tasks.base import Encoded
from evaluators.training.loss import LayerMap, LossWeights
from evaluators.training.pupil import Pupil
from evaluators.training.rounding import Rounding
from evaluators.training.schedule import Descent, Progress, Ticker, length_batches, seeded
from evaluators.training.teacher import EMBEDDINGS, Teacher
from spaces.errors import DataError, ModelError


@dataclass(frozen=True)
class DistillSettings(LossWeights):
    """What a student is judged by, and how long and how fast it learns.

    Args:
        epochs: at most.
        learning_rate, warmup, weight_decay: as in fine-tuning.
        batch_size: rows per step.
        freeze_embeddings: leave all in front of the first layer as it is: half of a small model's weights, and without
            them an epoch is much shorter.
        held_out: share of the rows that are not trained on; they choose the best epoch.
        patience: epochs without a better one after which training stops.
    """

    epochs: int = 4
    learning_rate: float = 1.5e-4
    batch_size: int = 32
    warmup: float = 0.06
    weight_decay: float = 0.01
    freeze_embeddings: bool = True
    held_out: float = 0.05
    patience: int = 2

    def lasting(self, epochs: int) -> "DistillSettings":
        """The same for at most so many epochs."""
        return replace(self, epochs=epochs)


@dataclass(frozen=True)
class EpochFigures:
    """One epoch: mean loss while training, then on held-out rows the mean KL divergence from the teacher's predictions
    in nats and the share of equal ones; seconds."""

    train_loss: float
    held_out_kl: float
    held_out_agreement: float
    seconds: float


@dataclass(frozen=True)
class Distilled:
    """What came of it.

    Args:
        model: the trained copy with its best epoch's weights, in evaluation mode on the CPU.
        epochs: figures of those that were run.
        best: index of the one with the least held-out divergence.
        untrained_kl: held-out divergence of the student as it was given.
    """

    model: PreTrainedModel
    epochs: tuple[EpochFigures, ...]
    best: int
    untrained_kl: float


def uniform_layer_map(student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Student layers spread evenly over the teacher's, last to last.

    Raises:
        ModelError: the student has more layers than the teacher.
    """
    if student_layers > teacher_layers:
        raise ModelError(
            f"A student of {student_layers} layers has more than its teacher ({teacher_layers}). Map none."
        )
    return {layer: (layer + 1) * teacher_layers // student_layers - 1 for layer in range(student_layers)}


def distill(
    student: PreTrainedModel,
    teacher: Teacher,
    rows: Encoded,
    layer_map: LayerMap,
    settings: DistillSettings,
    *,
    seed: int,
    device: str = "cpu",
    rounding: Rounding | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Distilled:
    """Train a copy of `student`; the same for the same seed, machine and threads.

    There is no dropout: the teacher answered without it, under dropout its states could not be reproduced, and soft
    labels and held-out rows already guard against overfitting.

    Args:
        student: a sequence classifier, pruned or not; stays as it was.
        teacher: has answered `rows`.
        rows: tokenised train rows; label -1 where there is none.
        layer_map: from student layers to those of the teacher whose outputs they shall reproduce; may be empty.
        settings: loss and schedule.
        seed: draws held-out rows and batches.
        device: where to train, and where the teacher is.
        rounding: weights in few bits that the student learns to live with; it keeps its own in fp32.
        progress: told after every step.

    Raises:
        DataError: fewer than two rows, or not as many as the teacher answered.
        ModelError: the map names a layer that the student or the teacher has not.
        ConfigError: training diverged.
    """
    _check(rows, teacher)
    rng = np.random.default_rng(seed)
    held_out, train = _split(len(rows), settings.held_out, rng)
    plan = [_batches(rows, train, settings.batch_size, rng) for _ in range(settings.epochs)]
    model = nn.Module.to(copy.deepcopy(student), device).train(False).requires_grad_(True)
    if settings.freeze_embeddings:
        _freeze_embeddings(model)
    elif layer_names(model):
        layer_map = {EMBEDDINGS: EMBEDDINGS, **layer_map}
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with seeded(seed, device), nullcontext() if rounding is None else rounding.applied(model):
        pupil = Pupil(model, teacher, rows, layer_map, settings, device)
        untrained_kl, _ = pupil.exam(held_out)
        run = _epochs(pupil, plan, held_out, settings, progress)
        epochs, best, weights = _best_of(run, learning, settings.patience)
    return Distilled(_carrying(weights, student), tuple(epochs), best, untrained_kl)


def _check(rows: Encoded, teacher: Teacher) -> None:
    if len(rows) < 2 or len(rows) != len(teacher.logits):
        raise DataError(
            f"Distillation has {len(rows)} rows and the teacher's answers to {len(teacher.logits)}, expected as many "
            "and at least 2. Give it the rows that the teacher answered."
        )


def _epochs(
    pupil: Pupil,
    plan: Sequence[Sequence[Sequence[int]]],
    held_out: Sequence[int],
    settings: DistillSettings,
    progress: Callable[[Progress], None] | None,
) -> Iterator[EpochFigures]:
    """Train epoch by epoch, as long as somebody asks for the next; of long rows part by part of a batch, of which means
    over tokens are then taken."""
    steps = sum(len(batches) for batches in plan)
    ticker = Ticker(steps, progress)
    descent = Descent(
        pupil.parameters(),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        steps=steps,
    )
    for batches in plan:
        started, losses = time.monotonic(), []
        for batch in batches:
            loss = descent.step(len(part) / len(batch) * pupil.loss(part) for part in pupil.parts(batch))
            ticker.tick(loss)
            losses.append(loss * len(batch))
        mean = torch.stack(losses).sum().item() / sum(len(batch) for batch in batches)
        kl, agreement = pupil.exam(held_out)
        yield EpochFigures(mean, kl, agreement, time.monotonic() - started)


def _best_of(
    run: Iterable[EpochFigures], learning: Mapping[str, nn.Parameter], patience: int
) -> tuple[list[EpochFigures], int, dict[str, Tensor]]:
    """The epochs until `patience` of them brought nothing, the index of the best, and its weights."""
    epochs: list[EpochFigures] = []
    best, weights = 0, dict[str, Tensor]()
    for figures in run:
        epochs.append(figures)
        if len(epochs) == 1 or figures.held_out_kl < epochs[best].held_out_kl:
            best = len(epochs) - 1
            weights = {name: parameter.detach().cpu().clone() for name, parameter in learning.items()}
        elif len(epochs) - 1 - best >= patience:
            break
    return epochs, best, weights


def _split(rows: int, share: float, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Indices of held-out rows, at least one, and of the others."""
    order = rng.permutation(rows).tolist()
    count = max(1, round(share * rows))
    return order[:count], order[count:]


def _batches(rows: Encoded, train: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """One epoch's batches of the rows `train`."""
    batches = length_batches([rows.lengths[row] for row in train], size, rng)
    return [[train[place] for place in batch] for batch in batches]


def _freeze_embeddings(model: PreTrainedModel) -> None:
    """Fix what is registered before the first layer; a model without layers keeps all of it free."""
    first = next(iter(layer_names(model)), None)
    for name, parameter in model.named_parameters():
        if first is None or name.startswith(f"{first}."):
            return
        parameter.requires_grad_(False)


def _carrying(weights: Mapping[str, Tensor], student: PreTrainedModel) -> PreTrainedModel:
    """A copy of `student` with these weights, on the CPU."""
    model: PreTrainedModel = nn.Module.to(copy.deepcopy(student), "cpu").train(False)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in weights.items():
            parameters[name].copy_(values)
    return model
