"""The runs that several benchmarks of the moved front share: made once per seed, read by all. Times nothing itself.

Every seed draws its own splits, teacher, search and training. Test rows are read here only, for models that a
benchmark named before, and what was read is kept beside the run.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from report import ROOT

from evaluators.artifact import Artifact
from evaluators.cascade import CASCADE, Cascade
from evaluators.tasks.base import Rows
from evaluators.tasks.movie_reviews import MovieReviews
from evaluators.tasks.splits import SplitSizes
from search import front_file, run
from search.config import RunConfig
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.select import Kind, eligible, within
from search.so_far import CONFIG

SEEDS = (0, 1, 2)
TRIALS, RECOVERED, EPOCHS, CASCADES = 100, 3, 2, 4
LIMIT = "1%"
RUNS = ROOT / "results" / "front"
QUICK_RUNS = RUNS.with_name("front_quick")

Losses: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a benchmark over these runs."""

    quick: bool
    seeds: tuple[int, ...]

    @classmethod
    def parse(cls, seeds: tuple[int, ...] = SEEDS) -> Self:
        parser = argparse.ArgumentParser()
        parser.add_argument("--quick", action="store_true", help="one seed, short training, writes nothing")
        parser.add_argument("--seeds", type=int, default=len(seeds))
        given = parser.parse_args()
        return cls(given.quick, seeds[: 1 if given.quick else given.seeds])

    def run(self, seed: int) -> Path:
        """The folder of a seed's finished run; one that was interrupted goes on."""
        return _searched(QUICK_RUNS if self.quick else RUNS, seed, quick=self.quick)


def _searched(runs: Path, seed: int, *, quick: bool) -> Path:
    folder = runs / str(seed)
    if (folder / front_file.FILE_NAME).exists():
        return folder
    if (folder / CONFIG).exists():
        run.resume(folder, {})
        return folder
    config = {
        "model": "minilm",
        "task": "movie-reviews",
        "space": {"vocabulary": True},
        "limits": {"accuracy_drop": LIMIT},
        "search": {"trials": 20 if quick else TRIALS, "seed": seed},
        "recover": {"members": 1 if quick else RECOVERED, "epochs": 2 if quick else EPOCHS},
        "verify": {"members": 6 if quick else 24, "cascades": 2 if quick else CASCADES},
        "cache": False,
    }
    run.search(RunConfig.parse(config), folder)
    return folder


def losing_at_most(front: FrontFile, loss: float, kind: Kind = "single") -> list[MemberFigures]:
    """Members losing at most this share of `fair` on confirm."""
    return [member for member in eligible(front.members, kind) if relative_loss(member) <= loss]


def selected_at_most(front: FrontFile, loss: float, kind: Kind = "single") -> list[MemberFigures]:
    """The same as `select` sees it, which is more careful: on confirm and, if any do, on search too."""
    return within(eligible(front.members, kind), front.bounds({"accuracy_drop": f"{100 * loss:g}%"}))


def relative_loss(member: MemberFigures, split: str = "confirm") -> float:
    """What is lost on a split, as a share of what `fair` scores there."""
    figure = member.accuracy[split]
    assert figure.drop is not None
    return figure.drop.value / (figure.value + figure.drop.value)


def losses_on_test(folder: Path, artifact: str, seed: int) -> tuple[Losses, float]:
    """Per test row the loss against `fair` as a share of what `fair` scores, batch 1, and what `fair` scores."""
    kept = folder / "test_of_benchmark.json"
    known: dict[str, list[bool]] = json.loads(kept.read_text()) if kept.exists() else {}
    rows = MovieReviews(SplitSizes()).splits(seed).test
    for name in ("baseline/fair", artifact):
        if name not in known:
            known[name] = right(folder / name, rows)
            kept.write_text(json.dumps(known))
    fair, own = (np.asarray(known[name], dtype=np.float64) for name in ("baseline/fair", artifact))
    return (fair - own) / fair.mean(), float(fair.mean())


def right(folder: Path, rows: Rows) -> list[bool]:
    """Whether an exported model or cascade answers each row right, batch 1."""
    if (folder / CASCADE).exists():
        logits, _ = Cascade.open(folder).logits(rows.texts)
    else:
        model = Artifact.open(folder)
        logits = model.logits(model.encode(rows))
    answers = logits.argmax(-1) == np.asarray(rows.labels)
    return [bool(same) for same in answers]


def interval(losses: Sequence[Losses]) -> tuple[float, float, float]:
    """Mean of the pooled losses and its 95 % interval (normal approximation, paired rows)."""
    pooled = np.concatenate(losses)
    mean, half = float(pooled.mean()), float(1.96 * pooled.std(ddof=1) / np.sqrt(len(pooled)))
    return mean, mean - half, mean + half
