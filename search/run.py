"""A run from its configuration to its front: builds the objects that names stand for and calls them in order.

Beside cli.py the only module of search that knows concrete evaluators; it imports them inside functions, so that
reading a run never loads torch.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.base import Score
from search import names, present
from search.config import PruningConfig, QuantizationConfig, RunConfig, TaskConfig, merged, read_yaml
from search.loop import Meter
from search.loop import run as loop
from search.progress import Display
from search.record import Record
from search.runners.base import Runner, evaluated
from search.runners.inline import InlineRunner
from search.samplers.base import Sampler
from search.so_far import CONFIG, driving, read_config
from spaces.errors import CallerError, ConfigError, LimitError, RunError
from spaces.knobs import IntRange
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, Bound, Objective
from spaces.space import Axis, Space

if TYPE_CHECKING:
    from evaluators.answers import Prediction
    from evaluators.instances import Instances
    from evaluators.ladder.steps import Settings
    from evaluators.prepare import Assignment, Prepared
    from evaluators.runtimes.base import Runtime
    from evaluators.tasks.base import Task
    from spaces.design import Member

SUMMARY = "search.json"
# Shares of a model's cost that recovery tries to do without.
_STEEP_CUTS = (0.4, 0.55, 0.7)
# Predicting shows how far it has come after so many seconds, and again after each so many.
_PATIENCE_S, _REDRAW_S = 5.0, 0.5
# A forecast times this many designs, spread over the ladder.
_FORECAST_DESIGNS = 4


def search(config: RunConfig, folder: Path, display: Display | None = None, prepared: "Prepared | None" = None) -> int:
    """A new run in `folder`: prepare, search, verify, report.

    Args:
        config: everything that decides the run.
        folder: must not exist, or be empty.
        display: shows progress.
        prepared: of an earlier run with the same model, rows, seed and target (`prepare_run`), to be used again.

    Returns:
        0, or 3 if limits were given and nothing meets them.

    Raises:
        RunError: the folder is in use.
        CallerError: whatever is wrong with the configuration, the model or the data.
    """
    _check(config)
    if folder.exists() and any(folder.iterdir()):
        cure = f"Go on with `paretoformer resume {folder}`, or name another folder with --out."
        raise RunError(f"{folder} is not empty. {cure}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / "env.json").write_text(json.dumps(_environment(), indent=2))
    try:
        return _go_on(config, folder, display or Display(), prepared)
    except CallerError:
        if not Record.exists(folder, storage=config.search.storage):
            shutil.rmtree(folder)  # nothing was searched; the corrected command may use the same folder
        raise


def resume(folder: Path, flags: Mapping[str, Any], display: Display | None = None) -> int:
    """Go on with a run; flags that were given replace the run's own settings."""
    config = RunConfig.parse(merged(read_config(folder).model_dump(mode="json"), flags))
    _check(config)
    return _go_on(config, folder, display or Display())


def verify(folder: Path, display: Display | None = None) -> int:
    """Measure a run's front again without searching on."""
    config = read_config(folder)
    shown = display or Display()
    with closing(shown), driving(folder):
        prepared = prepare_run(config, folder, shown)
        space = _space(config, prepared)
        record = Record.open(folder, storage=config.search.storage)
        return _verify(config, folder, prepared, space, record, shown)


def fresh_folder(config: RunConfig) -> Path:
    """A folder under results/ that is not in use, named after model, task and time."""
    task = config.task.name or Path(config.task.file or config.task.dataset or "task").stem
    return Path("results") / f"{Path(config.model).name}-{task}-{time.strftime('%Y%m%d-%H%M%S')}"


def forecast(config: RunConfig, display: Display | None = None) -> None:
    """Show the space, its extremes and how long a search would take, from a few timed designs; keeps nothing."""
    from evaluators.transformer import TransformerEvaluator

    _check(config)
    shown = display or Display()
    with closing(shown), tempfile.TemporaryDirectory() as scratch:
        prepared = prepare_run(config, Path(scratch), shown)
        space = _space(config, prepared)
        evaluator = TransformerEvaluator(prepared.workload)
        seeds = space.seeds()
        timed = [
            space.decode(design) for design in seeds[:: max(1, len(seeds) // _FORECAST_DESIGNS)][:_FORECAST_DESIGNS]
        ]
        evaluations = [evaluated(evaluator, Score(member, config.search.rows)) for member in timed]
    per_design = sum(evaluation.seconds for evaluation in evaluations) / len(evaluations)
    members = {name: space.decode(design) for name, design in space.extremes().items()}
    figures = {
        name: (prepared.workload.latency.predict_ms(member), prepared.workload.template.size(member))
        for name, member in members.items()
    }
    print(present.forecast(space.describe(), figures, per_design, config.search.trials, _workers(config)))


def finetune(model: str, task: str, out: Path, *, epochs: int, seed: int, display: Display | None = None) -> None:
    """Fine-tune on the task's train split and write a `save_pretrained` folder.

    Raises:
        RunError: `out` is in use.
    """
    from evaluators.models import ensure_finetuned
    from evaluators.training.finetune import FinetuneSettings

    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty. Name another folder with --out.")
    config = RunConfig.parse({"model": model, "task": task, "finetune": {"epochs": epochs}})
    built = _task(config.task)
    shown = display or Display()
    with closing(shown):
        settings = FinetuneSettings(epochs=epochs)
        checkpoint = ensure_finetuned(
            model,
            built,
            built.splits(seed),
            settings=settings,
            seed=seed,
            max_length=config.finetune.max_length,
            trust_remote_code=False,
            watch=shown.stage,
        )
    shutil.copytree(checkpoint, out, dirs_exist_ok=True)
    shown.say(f"Wrote {out}.")


def fastformers(
    config: RunConfig, out: Path, settings: "Settings", price_per_hour: float, display: Display | None = None
) -> dict[str, Any]:
    """The published FastFormers ladder, each step built and measured; what `out` holds of it already is kept.

    Args:
        config: model, task, seed and fine-tuning.
        out: for the steps' models, `ladder.json` and `ladder.md`.
        settings: constants of the ladder.
        price_per_hour: of this machine, in dollars.
        display: shows progress.

    Returns:
        What ladder.json holds.

    Raises:
        RunError: `out` holds something else.
    """
    from evaluators.ladder.climb import STEPS_FILE, climb
    from search import fastformers as ladder

    if out.exists() and any(out.iterdir()) and not (out / STEPS_FILE).exists():
        raise RunError(f"{out} is not empty. Name another folder with --out.")
    shown = display or Display()
    with closing(shown):
        document = ladder.document(climb(_assignment(config), settings, out, shown.stage), price_per_hour)
    (out / "ladder.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    (out / "ladder.md").write_text(ladder.markdown(document))
    return document


def predict(
    model_dir: Path, texts: Sequence[str] | Path, *, instances: "Instances | None", threads: int, batch_size: int
) -> Generator[dict[str, Any], None, None]:
    """Predictions of an exported model, one mapping per text, in order, while a file is still being read.

    Args:
        model_dir: the model.
        texts: themselves, or a JSONL file of them. All lines are checked before the first answer.
        instances: processes that share the work; None: this one.
        threads: that each may use.
        batch_size: rows per call.
    """
    from evaluators import instances as serving

    rows, total = _read_twice(texts) if isinstance(texts, Path) else (texts, len(texts))
    with closing(Display()) as shown:
        if instances is not None and (remark := serving.crowding(instances, threads)) is not None:
            shown.say(remark)
        found = serving.predict(model_dir, rows, instances=instances, threads=threads, batch_size=batch_size)
        with closing(found):
            for prediction in _watched(found, total, shown):
                yield {"label": prediction.label, "score": round(prediction.score, 6)}


def _read_twice(file: Path) -> tuple[Iterable[str], int]:
    """A file's texts and their number; only what cannot be read twice, such as a pipe, is held in memory."""
    if file.is_file():
        return present.read_texts(file), sum(1 for _ in present.read_texts(file))
    texts = list(present.read_texts(file))
    return texts, len(texts)


def _watched(found: "Iterable[Prediction]", total: int, shown: Display) -> "Iterator[Prediction]":
    """The same, with a bar where it takes long and answers do not go to the terminal themselves."""
    due = time.monotonic() + _PATIENCE_S if sys.stderr.isatty() and not sys.stdout.isatty() else math.inf
    for done, prediction in enumerate(found, start=1):
        yield prediction
        if time.monotonic() >= due:
            shown.stage("predict", done, total)
            due = time.monotonic() + _REDRAW_S


def bench(
    model_dirs: list[Path],
    task: str,
    target: Path | None,
    *,
    threads: int | None,
    seed: int,
    format: str,
    instances: "Instances | None" = None,
    batch_size: int | None = None,
) -> str:
    """Exported models side by side on a task's confirm rows, as text; with `instances` also on the whole machine."""
    from evaluators import instances as serving
    from evaluators.assess import bench as measure

    config = RunConfig.parse(
        merged({"task": task, "target": read_yaml(target) if target else {}}, {"target.threads": threads})
    )
    with closing(Display()) as shown:
        serve = None
        if instances is not None:
            if (remark := serving.crowding(instances, config.target.threads)) is not None:
                shown.say(remark)
            serve = partial(
                serving.throughput,
                instances=instances,
                threads=config.target.threads,
                batch_size=batch_size or serving.BATCH_SIZES,
                seed=seed,
                progress=partial(shown.stage, "throughput"),
            )
        rows = measure(model_dirs, _task(config.task), _target(config), seed, shown.stage, serve)
    return present.bench(rows, format)


def _check(config: RunConfig) -> None:
    """Everything that can be wrong and costs nothing to find out."""
    names.known("samplers", config.search.sampler)
    names.known("runtimes", config.target.runtime)
    _task(config.task)
    if config.recover.unlabeled is not None:
        from evaluators.tasks.files import unlabeled_texts

        unlabeled_texts(Path(config.recover.unlabeled))
    widths = config.space.quantization
    executed = _runtime(config).bits
    for bits in ((widths.bits or ()) + (widths.embeddings or ())) if widths else ():
        if bits not in executed:
            raise ConfigError(
                f"space.quantization: {config.target.runtime} does not execute {bits} bits. Choose from {executed}."
            )
    if not config.space.pruning and not config.space.quantization:
        raise ConfigError("space: pruning and quantization are both false, so there is nothing to search. Allow one.")


def _go_on(config: RunConfig, folder: Path, display: Display, given: "Prepared | None" = None) -> int:
    """Search until the trials or the time are used up, then verify."""
    from evaluators.transformer import TransformerEvaluator

    with closing(display), driving(folder):
        prepared = given or prepare_run(config, folder, display)
        space = _space(config, prepared)
        bounds = _bounds(config, prepared.fair)
        _refuse_impossible(bounds, config, prepared)
        (folder / CONFIG).write_text(config.to_yaml())
        record = _record(config, folder, bounds)
        sampler = _sampler(config, record, space)
        meter = Meter(config.search.trials, config.search.seconds)
        with closing(_runner(config, partial(TransformerEvaluator, prepared.workload))) as runner:
            summary = loop(space, sampler, runner, record, rows=config.search.rows, meter=meter, watch=display.trial)
        figures = {
            "designs_per_second": summary.designs_per_second,
            "busy_share": summary.worker_busy_share,
            "seconds": summary.seconds,
            "evaluated": summary.evaluated,
        }
        if summary.evaluated:
            (folder / SUMMARY).write_text(json.dumps(figures, indent=2))
        if config.recover.members:
            _recover(config, folder, prepared, space, record, display)
        return _verify(config, folder, prepared, space, Record.open(folder, storage=config.search.storage), display)


def _recover(
    config: RunConfig, folder: Path, prepared: "Prepared", space: Space, record: Record, display: Display
) -> None:
    """Distil what deserves it; the members that come out stand in a study of their own."""
    from evaluators.transformer import TransformerEvaluator
    from search.recover import STUDY, Plan, Recovery
    from spaces.axes.pruning import Pruning

    storage = config.search.storage
    if Record.exists(folder, storage=storage, study=STUDY):
        recovered = Record.open(folder, storage=storage, study=STUDY).reopen_with(record.bounds)
    else:
        recovered = Record.create(
            folder, objectives=record.objectives, bounds=record.bounds, storage=storage, study=STUDY
        )
    plan = Plan(
        members=config.recover.members,
        epochs=config.recover.epochs,
        rows=config.search.rows,
        family=Pruning.family,
        fair=prepared.fair,
        objectives=config.objectives,
    )
    with closing(_runner(config, partial(TransformerEvaluator, prepared.workload))) as runner:
        Recovery(space, record, recovered, runner, plan, display.stage).run(_steep(space))
    Record.open(folder, storage=storage).write_csv()


def _steep(space: Space) -> "list[Member]":
    """Members that only training makes useful: shallow and narrow at once, where search goes one step at a time."""
    from spaces.design import Design

    neutral = space.identity()
    depth, cut = space.knobs.get("prune.depth"), space.knobs.get("prune.cut")
    if not isinstance(depth, IntRange) or cut is None:
        return []
    narrow = {name: value for axis in space.axes[1:] for name, value in axis.ladder()[-1].items()}
    return [
        space.decode(Design({**neutral, **narrow, "prune.depth": layers, "prune.cut": share}))
        for layers in range(max(2, depth.high // 3), depth.high + 1)
        for share in _STEEP_CUTS
    ]


def _verify(
    config: RunConfig, folder: Path, prepared: "Prepared", space: Space, record: Record, display: Display
) -> int:
    from evaluators.assess import TransformerAssessor
    from evaluators.transformer import TransformerEvaluator
    from search.situation import Situation
    from search.verify import verify_front

    make = partial(TransformerEvaluator, prepared.workload)
    summary, latency = folder / SUMMARY, prepared.workload.latency
    situation = Situation(
        folder=folder,
        space=space,
        record=record,
        assessor=TransformerAssessor(prepared, folder, rounds=config.verify.rounds, processes=config.verify.processes),
        pool=partial(_runner, config, make),
        inline=partial(InlineRunner, make),
        bounds=_bounds(config, prepared.fair),
        limits={limit.name: limit.asked for limit in config.limits.limits()},
        objectives=tuple({"accuracy": ACCURACY, "latency": LATENCY, "size": SIZE}[name] for name in config.objectives),
        members=config.verify.members,
        cascades=config.verify.cascades,
        confidence=config.confidence,
        seed=config.search.seed,
        target=prepared.workload.target,
        splits={name: (len(rows), rows.sha256) for name, rows in vars(prepared.texts).items()},
        latency_model={"spearman": latency.spearman, "mean_error": latency.mean_error, "n": len(latency.held_out)},
        search=json.loads(summary.read_text()) if summary.exists() else {},
    )
    front = verify_front(situation, display.stage)
    present.write_pictures(folder, display.say)
    limits = next((pick for pick in front.picks if pick.name == "limits"), None)
    return 3 if limits is not None and limits.key is None else 0


def prepare_run(config: RunConfig, folder: Path, display: Display) -> "Prepared":
    """Everything a run needs before its first design; what is on disk already is read back."""
    from evaluators.prepare import prepare

    return prepare(_assignment(config), folder, display.stage)


def _assignment(config: RunConfig) -> "Assignment":
    """What is to be compressed, for where."""
    from evaluators.prepare import Assignment
    from evaluators.training.finetune import FinetuneSettings

    return Assignment(
        model=config.model,
        task=_task(config.task),
        runtime=_runtime(config),
        target=_target(config),
        seed=config.search.seed,
        finetune=FinetuneSettings(
            epochs=config.finetune.epochs,
            learning_rate=config.finetune.learning_rate,
            batch_size=config.finetune.batch_size,
        ),
        max_length=config.finetune.max_length,
        timing_inputs=config.verify.inputs,
        compensate=(config.space.pruning or PruningConfig(compensate=False)).compensate,
        distill=_distillation(config),
        vocabulary=bool(config.space.vocabulary),
        unlabeled=None if config.recover.unlabeled is None else Path(config.recover.unlabeled),
        trust_remote_code=config.trust_remote_code,
    )


def _distillation(config: RunConfig) -> Any:
    from evaluators.training.distill import DistillSettings

    return DistillSettings(epochs=config.recover.epochs, learning_rate=config.recover.learning_rate)


def _task(config: TaskConfig) -> "Task":
    from evaluators.tasks.files import FileTask
    from evaluators.tasks.hub import HubTask
    from evaluators.tasks.movie_reviews import MovieReviews
    from evaluators.tasks.splits import SplitSizes

    sizes = SplitSizes(**config.splits.model_dump())
    if config.file is not None:
        return FileTask(config.file, config.text, config.label, config.metric, sizes)
    if config.dataset is not None:
        columns = (config.text, config.label, config.metric)
        return HubTask(config.dataset, config.config, *columns, split=config.part, sizes=sizes)
    names.known("tasks", config.name or "")
    return MovieReviews(sizes, config.metric)


def _runtime(config: RunConfig) -> "Runtime":
    if config.target.runtime == "torch":
        from evaluators.runtimes.torch import TorchRuntime

        return TorchRuntime()
    from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

    return OnnxRuntime(config.target.device)


def _target(config: RunConfig) -> Any:
    from evaluators.metrics.host import this_target

    asked, runtime = config.target, _runtime(config)
    here = this_target(
        runtime.name,
        runtime.version,
        threads=asked.threads,
        batch_size=asked.batch_size,
        lengths=asked.lengths,
        device=asked.device,
    )
    return replace(here, label=asked.label)


def _space(config: RunConfig, prepared: "Prepared") -> Space:
    """The axes that are asked for, over what the runtime executes."""
    from spaces.axes.pruning import PruningAxis
    from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
    from spaces.axes.vocabulary import VocabularyAxis

    executed = prepared.assignment.runtime.bits
    units = config.space.pruning or PruningConfig(blocks=False, heads=False, ffn=False)
    widths = _widths(config, prepared.assignment.runtime)
    pruning = PruningAxis(
        prepared.shape,
        prepared.importance,
        prepared.workload.latency.unit_costs(8 if 8 in executed else max(executed)),
        ffn_group=units.ffn_group,
        blocks=units.blocks,
        heads=units.heads,
        ffn=units.ffn,
    )
    quantization = QuantizationAxis(prepared.shape, widths["blocks"], widths["tables"])
    further: list[Axis] = []
    if config.space.vocabulary and prepared.vocabulary is not None:
        ranking = prepared.vocabulary
        sizes = [max(ranking.required, round(share * ranking.seen)) for share in config.space.vocabulary.shares]
        further.append(VocabularyAxis(prepared.shape, sizes))
    return Space([pruning, quantization, *further], rules=[forget_absent_parts])


def _widths(config: RunConfig, runtime: "Runtime") -> dict[str, tuple[int, ...]]:
    """Widths to choose from, of blocks and of tables."""
    asked = config.space.quantization or QuantizationConfig(bits=(max(runtime.bits),))
    bits = asked.bits or runtime.bits
    return {"blocks": bits, "tables": asked.embeddings or bits}


def _bounds(config: RunConfig, fair: Mapping[str, float]) -> tuple[Bound, ...]:
    return tuple(limit.resolve(fair) for limit in config.limits.limits())


def _refuse_impossible(bounds: tuple[Bound, ...], config: RunConfig, prepared: "Prepared") -> None:
    """A limit below a model without any block is the caller's mistake, found before any trial."""
    from spaces.axes.pruning import LayerUnits, Pruning
    from spaces.axes.quantization import LayerBits, Quantization
    from spaces.design import Member

    gone, widths = (None,) * (prepared.shape.layers - 1), _widths(config, prepared.assignment.runtime)
    pruning = Pruning((LayerUnits((), ()), *gone))
    bits = Quantization((LayerBits(None, None), *gone), min(widths["tables"]), min(widths["blocks"]))
    empty = Member((pruning, bits))
    least = {
        "latency": prepared.workload.latency.predict_ms(empty),
        "size": float(prepared.workload.template.size(empty)),
    }
    for bound in bounds:
        if bound.name in least and bound.excess(least[bound.name]) > 0:
            raise LimitError(
                f"The {bound.name} limit {bound.asked} contradicts the space: without any block left the model has "
                f"{least[bound.name]:.4g} {bound.unit}. Relax the limit, or widen the space."
            )


def _objectives(config: RunConfig) -> tuple[Objective, ...]:
    """What trials are told: quality stands in for accuracy while searching."""
    quality = KL if config.quality == "kl" else ACCURACY
    return tuple({"accuracy": quality, "latency": LATENCY, "size": SIZE}[name] for name in config.objectives)


def _record(config: RunConfig, folder: Path, bounds: tuple[Bound, ...]) -> Record:
    """The run's record, opened again if it exists; other limits open a further study beside the old one."""
    storage = config.search.storage
    if not Record.exists(folder, storage=storage):
        return Record.create(folder, objectives=_objectives(config), bounds=bounds, storage=storage)
    record = Record.open(folder, storage=storage)
    return record if record.bounds == bounds else record.reopen_with(bounds)


def _sampler(config: RunConfig, record: Record, space: Space) -> Sampler:
    from search.samplers import optuna_bridge as bridge
    from search.samplers.auto import AutoSampler

    common: Any = {"seeds": space.seeds(), "seed": config.search.seed, "trials": config.search.trials}
    if config.search.sampler == "auto":
        return AutoSampler(record, space, **common)
    makers = {"nsga2": bridge.nsga2, "tpe": bridge.tpe, "gp": bridge.gp, "random": bridge.random}
    return bridge.OptunaSampler(record, space, makers[config.search.sampler], **common)


def _workers(config: RunConfig) -> int:
    return config.search.workers or max(1, (os.cpu_count() or 1) // config.target.threads)


def _runner(config: RunConfig, make: Any) -> Runner:
    if _workers(config) == 1 and config.search.address is None:
        return InlineRunner(make)
    from search.runners.ray_pool import RayRunner

    workers = _workers(config)
    shared = 1 / workers if config.target.device == "cuda" else 0.0  # all of them on one GPU, if nothing is said
    return RayRunner(
        make,
        workers=workers,
        address=config.search.address,
        cpus_per_worker=config.target.threads,
        gpus_per_worker=config.search.gpus_per_worker or shared,
    )


def _environment() -> dict[str, Any]:
    from evaluators.metrics.host import describe_host, git_commit

    return {**describe_host(), "commit": git_commit(Path(__file__).parent)}
