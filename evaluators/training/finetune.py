"""Fine-tuning of a classifier. Knows models and tokenised rows; knows nothing of tasks, folders or designs."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from evaluators.tasks.base import Encoded

# Batches whose rows are sorted by length together: enough to pad little, few enough to stay random.
_BUCKET_BATCHES = 32
_CLIP_NORM = 1.0
_WORTHWHILE = 1.2


@dataclass(frozen=True)
class FinetuneSettings:
    """AdamW with a linear warm-up over the share `warmup` of all steps, then a linear decay to zero."""

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 32
    warmup: float = 0.06
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Progress:
    """How far training is: steps done and in all, the last batch's loss, seconds to go."""

    step: int
    total: int
    loss: float
    eta_seconds: float


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
        model: a `transformers` sequence classifier; stays as it was.
        train: tokenised rows with class indices.
        settings: schedule and sizes.
        seed: draws batches and dropout.
        device: where to train.
        progress: told after every step.
    """
    model = copy.deepcopy(model).to(device).train()
    rng = np.random.default_rng(seed)
    epochs = [length_batches(train.lengths, settings.batch_size, rng) for _ in range(settings.epochs)]
    plan = [batch for epoch in epochs for batch in epoch]
    optimizer, schedule = _optimizer(model, settings, len(plan))
    half = bf16_is_faster(device)
    started = time.monotonic()
    with _seeded(seed, device):
        for step, batch in enumerate(plan, start=1):
            loss = _step(model, train.take(batch), optimizer, device, half)
            schedule.step()
            if progress is not None:
                eta = (time.monotonic() - started) / step * (len(plan) - step)
                progress(Progress(step, len(plan), loss, eta))
    return model.to("cpu").eval()


def length_batches(lengths: tuple[int, ...], batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Row indices of one epoch's batches: every row once, similar lengths together, batches in random order."""
    order = rng.permutation(len(lengths))
    bucket = batch_size * _BUCKET_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), bucket):
        rows = sorted(order[start : start + bucket].tolist(), key=lambda row: lengths[row])
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def bf16_is_faster(device: str) -> bool:
    """Whether a matrix product of a small encoder's size gains at least a fifth from bfloat16 on this machine."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    full = torch.ones(864, 384)  # (B * T, H) of 32 rows of 27 tokens
    weight = torch.ones(1536, 384)
    return _seconds(full, weight) > _WORTHWHILE * _seconds(full.bfloat16(), weight.bfloat16())


def _seconds(left: torch.Tensor, weight: torch.Tensor) -> float:
    times: list[float] = []
    for _ in range(8):
        started = time.perf_counter()
        functional.linear(left, weight)
        times.append(time.perf_counter() - started)
    return min(times)


def _optimizer(model: Any, settings: FinetuneSettings, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW that decays matrices only, and its schedule over `steps`."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    warm = max(1, round(settings.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    return optimizer, schedule


def _step(model: Any, rows: Encoded, optimizer: torch.optim.Optimizer, device: str, half: bool) -> float:
    (padded,) = rows.batches(len(rows))
    inputs = {name: torch.from_numpy(values).to(device) for name, values in padded.items()}  # (B, T) each
    labels = torch.tensor(rows.labels, device=device)  # (B,)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=half):
        logits = model(**inputs).logits  # (B, C)
    loss = functional.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
    optimizer.step()
    return loss.item()


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Dropout draws from torch's global generator: seeded here, put back afterwards."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
