"""How training walks: batches of similar lengths, AdamW and its schedule, precision, seeds. Knows no losses."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluators.tasks.base import MASK, Encoded

# Batches whose rows are sorted by length together: enough to pad little, few enough to stay random.
_BUCKET_BATCHES = 32
_CLIP_NORM = 1.0
# Of a padded part of a batch, whose gradient needs all that its layers computed: 2 GB for a MiniLM.
_MOST_TOKENS = 8192
_WORTHWHILE = 1.2


@dataclass(frozen=True)
class Progress:
    """How far training is: steps done and in all, the last batch's loss, seconds to go."""

    step: int
    total: int
    loss: float
    eta_seconds: float


class Ticker:
    """Tells a listener of every step; without one the loss is never read, for which a GPU would have to wait."""

    def __init__(self, total: int, listener: Callable[[Progress], None] | None) -> None:
        self._total = total
        self._listener = listener
        self._step = 0
        self._started = time.monotonic()

    def tick(self, loss: Tensor) -> None:
        self._step += 1
        if self._listener is not None:
            eta = (time.monotonic() - self._started) / self._step * (self._total - self._step)
            self._listener(Progress(self._step, self._total, loss.item(), eta))


class Descent:
    """AdamW that decays matrices only.

    Args:
        parameters: what it changes.
        learning_rate: reached by a linear warm-up over the share `warmup` of all steps, then falling linearly to zero.
        weight_decay: of matrices.
        warmup: a share.
        steps: in all.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        weight_decay: float,
        warmup: float,
        steps: int,
    ) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        groups = [
            {"params": [p for p in self._parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in self._parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        warm = max(1, round(warmup * steps))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
        )

    def step(self, parts: Iterable[Tensor]) -> Tensor:
        """One step down the clipped gradient of a sum, which is returned; a part is let go of before the next comes."""
        self._optimizer.zero_grad()
        total = torch.zeros(())
        for part in parts:
            part.backward()  # type: ignore[no-untyped-call]
            total = total.to(part.device) + part.detach()
        torch.nn.utils.clip_grad_norm_(self._parameters, _CLIP_NORM)
        self._optimizer.step()
        self._schedule.step()
        return total


def length_batches(lengths: Sequence[int], batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Row indices of one epoch's batches: every row once, similar lengths together, batches in random order."""
    order = rng.permutation(len(lengths))
    bucket = batch_size * _BUCKET_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), bucket):
        rows = sorted(order[start : start + bucket].tolist(), key=lambda row: lengths[row])
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def in_parts(batch: Sequence[int], rows: Encoded) -> list[list[int]]:
    """A batch's rows in parts of nearly equal size that memory has room for; one part unless rows are long, or are not
    alike and have no mask."""
    most = max(1, _MOST_TOKENS // max(rows.lengths[row] for row in batch))
    ordered = batch if rows.tokenised else sorted(batch, key=rows.lengths.__getitem__)
    alike = [[ordered[place] for place in group] for group in rows.take(ordered).groups(len(batch))]
    return [part.tolist() for group in alike for part in np.array_split(np.array(group), -(-len(group) // most))]


def as_batch(rows: Encoded, device: str) -> dict[str, Tensor]:
    """The model's inputs of all `rows`, which fit together: each (B, T), or (B, ...) of files; on `device`."""
    (padded,) = rows.batches(len(rows))
    return {name: torch.from_numpy(values).to(device) for name, values in padded.items()}


def outputs_of(rows: Encoded, logits: Tensor) -> Tensor:
    """As `Encoded.outputs`, of one batch (B, ...)."""
    if not rows.words:
        return logits
    words = torch.from_numpy(np.stack(rows.words)).to(logits.device)  # (B, words)
    found = logits[torch.arange(len(words), device=logits.device)[:, None], words.clamp(min=0)]
    return found * (words >= 0)[..., None]


def token_mask(inputs: Mapping[str, Tensor], states: Tensor) -> Tensor:
    """1 where states (B, T, ...) that a model made of `inputs` are of tokens, and 0 at padding, (B, T)."""
    known = inputs.get(MASK)
    return states.new_ones(states.shape[:2], dtype=torch.int64) if known is None else known


def bf16_is_faster(device: str) -> bool:
    """Whether a matrix product of a small encoder's size gains at least a fifth from bfloat16 on this machine."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    full = torch.ones(864, 384)  # (B * T, H) of 32 rows of 27 tokens
    weight = torch.ones(1536, 384)
    return _seconds(full, weight) > _WORTHWHILE * _seconds(full.bfloat16(), weight.bfloat16())


def _seconds(left: Tensor, weight: Tensor) -> float:
    times: list[float] = []
    for _ in range(8):
        started = time.perf_counter()
        functional.linear(left, weight)
        times.append(time.perf_counter() - started)
    return min(times)


def in_bf16(device: str, enabled: bool) -> torch.autocast:
    """Inside, matrix products are computed in bfloat16 if `enabled`; weights and sums stay in fp32."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """What torch draws from its global generators (dropout, new weights): seeded here, put back afterwards."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
