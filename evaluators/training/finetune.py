"""Fine-tuning of a classifier. Knows models and tokenised rows; knows nothing of tasks, folders or designs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.labels import MULTI_LABEL
from evaluators.problems.words import OF_WORDS
from evaluators.tasks.base import Encoded
from evaluators.training.schedule import (
    Descent,
    Progress,
    Ticker,
    as_batch,
    bf16_is_faster,
    in_bf16,
    in_parts,
    length_batches,
    outputs_of,
    seeded,
)

_LEAST_EPOCHS, _LEAST_STEPS = 3, 120
# Of problems in which most of what is to be said of a row is that it is not there: each label alone is rare.
_LEAST_STEPS_OF = {MULTI_LABEL.name: 800, OF_WORDS: 800}
_FAR = 100_003  # between the seeds of fine-tunings that are averaged


@dataclass(frozen=True)
class FinetuneSettings:
    """AdamW with a linear warm-up over the share `warmup` of all steps, then a linear decay to zero.

    `epochs` None: three, or as many as make 120 steps: MiniLM-L6 on 300 reviews got 58 % right after three, 79 % after
    so many. Where rows have any number of labels, or their words one each, 800: on about 2,600 rows F1 rose from 0.45
    to 0.64 and from 0.80 to 0.86 over that of three epochs.

    `averaged`: fine-tunings that differ in the order of batches and in dropout, whose weights are averaged into one
    model (a uniform model soup, Wortsman et al. 2022): the same size and speed for so many times the training.

    `consistency`: weight of the divergence between two answers to the same rows under different dropout (R-Drop, Liang
    et al. 2021); with it a step reads its rows twice. It guards against learning few rows by heart.
    """

    epochs: int | None = None
    learning_rate: float = 1e-4
    batch_size: int = 32
    warmup: float = 0.06
    weight_decay: float = 0.01
    averaged: int = 1
    consistency: float = 0.0

    def passes(self, rows: int, problem: Problem = CLASSIFICATION) -> int:
        """Epochs over so many rows."""
        if self.epochs is not None:
            return self.epochs
        steps = -(-rows // self.batch_size)  # of an epoch
        return max(_LEAST_EPOCHS, -(-_LEAST_STEPS_OF.get(problem.name, _LEAST_STEPS) // steps))


def finetune(
    model: Any,
    train: Encoded,
    settings: FinetuneSettings,
    *,
    seed: int,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Any:
    """A fine-tuned copy of `model`, in evaluation mode on the CPU; the same for the same seed, machine and threads.

    Args:
        model: a `transformers` classifier; stays as it was.
        train: rows with labels, as the model reads them.
        settings: schedule and sizes.
        seed: draws batches and dropout.
        device: where to train.
        progress: told after every step.
    """
    return average(finetunings(model, train, settings, seed=seed, device=device, progress=progress))


def finetunings(
    model: Any,
    train: Encoded,
    settings: FinetuneSettings,
    *,
    seed: int,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> list[Any]:
    """The fine-tuned copies that `finetune` averages, the first of which is the one without averaging."""
    steps = settings.passes(len(train), train.problem) * -(-len(train) // settings.batch_size)
    ticker = Ticker(settings.averaged * steps, progress)
    return [_tuned(model, train, settings, seed + _FAR * number, device, ticker) for number in range(settings.averaged)]


def _tuned(model: Any, train: Encoded, settings: FinetuneSettings, seed: int, device: str, ticker: Ticker) -> Any:
    model = copy.deepcopy(model).to(device).train()
    rng = np.random.default_rng(seed)
    passes = settings.passes(len(train), train.problem)
    epochs = [length_batches(train.lengths, settings.batch_size, rng) for _ in range(passes)]
    plan = [batch for epoch in epochs for batch in epoch]
    descent = Descent(
        model.parameters(),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        steps=len(plan),
    )
    half = bf16_is_faster(device)
    with seeded(seed, device):
        for batch in plan:
            losses = (
                len(part) / len(batch) * _loss(model, train.take(part), device, half, settings.consistency)
                for part in in_parts(batch, train)
            )
            ticker.tick(descent.step(losses))
    return model.to("cpu").eval()


def average(models: Sequence[Any]) -> Any:
    """A model whose parameters are the means of theirs; the only one, if there is only one."""
    if len(models) == 1:
        return models[0]
    found = copy.deepcopy(models[0])
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            parameter.copy_(torch.stack([dict(each.named_parameters())[name] for each in models]).mean(0))
    return found


def _loss(model: Any, rows: Encoded, device: str, half: bool, consistency: float) -> Tensor:
    times = 2 if consistency else 1
    labels = torch.cat([torch.tensor(rows.labels, device=device)] * times)  # (times * B, ...)
    inputs = {name: torch.cat([values] * times) for name, values in as_batch(rows, device).items()}
    with in_bf16(device, half):
        answers = model(**inputs).logits.float().chunk(times)  # (B, C), or (B, T, C) where words are spoken of
    logits = torch.cat([outputs_of(rows, each) for each in answers])
    loss = rows.problem.losses(logits, labels).mean()
    return loss + consistency * _apart(rows.problem, *logits.chunk(2)) if consistency else loss


def _apart(problem: Problem, one: Tensor, other: Tensor) -> Tensor:
    """Mean over rows and both directions of the divergences between two answers (B, C)."""
    return (problem.divergences(one, other) + problem.divergences(other, one)).mean() / 2
