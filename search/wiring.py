"""What the names in a configuration stand for: model, task, runtime, space, sampler, runner. Builds; calls nothing.

Imports concrete evaluators inside functions, so that reading a run never loads torch.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import names
from search.config import PruningConfig, QuantizationConfig, RunConfig, TaskConfig
from search.progress import Display
from search.record import Record
from search.runners.base import Runner
from search.runners.inline import InlineRunner
from search.samplers.base import Sampler
from spaces.errors import ConfigError, LimitError
from spaces.objectives import ACCURACY, KL, OBJECTIVES, Bound, Objective
from spaces.space import Axis, Space

if TYPE_CHECKING:
    from evaluators.prepare import Assignment, Prepared
    from evaluators.runtimes.base import Runtime
    from evaluators.tasks.base import Task


def check(config: RunConfig) -> None:
    """Everything that can be wrong and costs nothing to find out."""
    names.known("samplers", config.search.sampler)
    if config.search.runner == "tune" and config.search.trial_timeout is not None:
        raise ConfigError("--trial-timeout goes with --runner ray: Ray Tune does not end single trials. Leave one out.")
    names.known("runtimes", config.target.runtime)
    task(config.task)
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
    if config.space.vocabulary and config.space.vocabulary.others == "shared" and config.target.runtime == "torch":
        raise ConfigError(
            "space.vocabulary.others: torch has no shared rows for rare words. Write gone, or leave it out."
        )
    if not config.space.pruning and not config.space.quantization:
        raise ConfigError("space: pruning and quantization are both false, so there is nothing to search. Allow one.")


def prepare_run(config: RunConfig, folder: Path, display: Display) -> "Prepared":
    """Everything a run needs before its first design; what is on disk already is read back."""
    from evaluators.prepare import prepare

    return prepare(assignment(config), folder, display.stage)


def assignment(config: RunConfig) -> "Assignment":
    """What is to be compressed, for where."""
    from evaluators.prepare import Assignment
    from evaluators.training.finetune import FinetuneSettings

    return Assignment(
        model=config.model,
        task=task(config.task),
        runtime=_runtime(config),
        target=target(config),
        seed=config.search.seed,
        finetune=FinetuneSettings(
            epochs=config.finetune.epochs,
            learning_rate=config.finetune.learning_rate,
            batch_size=config.finetune.batch_size,
        ),
        max_length=config.finetune.max_length,
        timing_inputs=config.verify.inputs,
        importance_rounds=(config.space.pruning or PruningConfig()).rounds,
        ffn_group=(config.space.pruning or PruningConfig()).ffn_group,
        sensitivity={32, 8} <= set(_widths(config, _runtime(config))["blocks"]),
        compensate=(config.space.pruning or PruningConfig(compensate=False)).compensate,
        distill=_distillation(config),
        vocabulary=bool(config.space.vocabulary),
        exact_rows=_exact_rows(config),
        unlabeled=None if config.recover.unlabeled is None else Path(config.recover.unlabeled),
        mixed=config.recover.mixed if config.recover.members else 0,
        trust_remote_code=config.trust_remote_code,
    )


def _distillation(config: RunConfig) -> Any:
    from evaluators.training.distill import DistillSettings

    asked = config.recover
    return DistillSettings(
        epochs=asked.epochs,
        learning_rate=asked.learning_rate,
        temperature=asked.temperature,
        hidden=asked.hidden,
        attention=asked.attention,
        hard_labels=asked.hard_labels,
    )


def task(config: TaskConfig) -> "Task":
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


def target(config: RunConfig) -> Any:
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


def space(config: RunConfig, prepared: "Prepared") -> Space:
    """The axes that are asked for, over what the runtime executes."""
    from evaluators.vocabulary import exact_rows
    from spaces.axes.pruning import PruningAxis
    from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
    from spaces.axes.rare import RareAxis
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
    quantization = QuantizationAxis(prepared.shape, widths["blocks"], widths["tables"], prepared.sensitive)
    further: list[Axis] = []
    if config.space.vocabulary and prepared.vocabulary is not None:
        sizes = [exact_rows(prepared.vocabulary, share) for share in config.space.vocabulary.shares]
        axis = VocabularyAxis if _exact_rows(config) is None else RareAxis
        further.append(axis(prepared.shape, sizes))
    return Space([pruning, quantization, *further], rules=[forget_absent_parts])


def _exact_rows(config: RunConfig) -> float | None:
    """The least share of the tokens in use whose rows stay exact; None where no rows are put together."""
    asked, able = config.space.vocabulary, config.target.runtime == "onnxruntime"
    if not asked or asked.others == "gone" or not (asked.others or able):
        return None
    return min(asked.shares)


def _widths(config: RunConfig, runtime: "Runtime") -> dict[str, tuple[int, ...]]:
    """Widths to choose from, of blocks and of tables."""
    asked = config.space.quantization or QuantizationConfig(bits=(max(runtime.bits),))
    bits = asked.bits or runtime.bits
    return {"blocks": bits, "tables": asked.embeddings or bits}


def bounds(config: RunConfig, fair: Mapping[str, float]) -> tuple[Bound, ...]:
    return tuple(limit.resolve(fair) for limit in config.limits.limits())


def refuse_impossible(bounds: tuple[Bound, ...], config: RunConfig, prepared: "Prepared") -> None:
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
    return tuple(quality if name == "accuracy" else OBJECTIVES[name] for name in config.objectives)


def record(config: RunConfig, folder: Path, bounds: tuple[Bound, ...]) -> Record:
    """The run's record, opened again if it exists; other limits open a further study beside the old one."""
    storage = config.search.storage
    if not Record.exists(folder, storage=storage):
        return Record.create(folder, objectives=_objectives(config), bounds=bounds, storage=storage)
    record = Record.open(folder, storage=storage)
    return record if record.bounds == bounds else record.reopen_with(bounds)


def sampler(config: RunConfig, record: Record, space: Space) -> Sampler:
    from search.samplers import optuna_bridge as bridge
    from search.samplers.auto import AutoSampler

    common: Any = {"seeds": space.seeds(), "seed": config.search.seed, "trials": config.search.trials}
    if config.search.sampler == "auto":
        return AutoSampler(record, space, **common)
    makers = {"nsga2": bridge.nsga2, "tpe": bridge.tpe, "gp": bridge.gp, "random": bridge.random}
    return bridge.OptunaSampler(record, space, makers[config.search.sampler], **common)


def workers(config: RunConfig) -> int:
    return config.search.workers or max(1, (os.cpu_count() or 1) // config.target.threads)


def runner(config: RunConfig, make: Any, *, timeout: float | None = None) -> Runner:
    """Where jobs run; `timeout` ends a job after so many seconds, for which it needs a process of its own."""
    asked, target = config.search, config.target
    count = workers(config)
    elastic = asked.address is not None and asked.workers is None
    shared = 1.0 if elastic else 1 / count  # all of them on one GPU, if nothing is said
    where: dict[str, Any] = {
        "address": asked.address,
        "cpus_per_worker": asked.cpus_per_worker or target.threads,
        "gpus_per_worker": asked.gpus_per_worker or (shared if target.device == "cuda" else 0.0),
    }
    if asked.runner == "tune":
        from search.runners.tune import TuneRunner

        return TuneRunner(make, workers=count, **where)
    if count == 1 and asked.address is None and timeout is None:
        return InlineRunner(make)
    from search.runners.ray_pool import RayRunner

    return RayRunner(make, workers=None if elastic else count, timeout=timeout, **where)
