"""What the names in a configuration stand for: model, task, runtime, space, sampler, runner. Builds; calls nothing.

Imports concrete evaluators inside functions, so that reading a run never loads torch.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from math import isclose
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from evaluators.base import Evaluator, Foreseer, Race
from search import names
from search.config import GPU_ROWS, TRIALS, PruningConfig, QuantizationConfig, RunConfig, TargetConfig
from search.progress import Display
from search.racing import Racing
from search.recipes import Recipe, is_recipe, recipe
from search.record import Figures, Record, Trial
from search.runners.base import Runner
from search.runners.inline import InlineRunner
from search.samplers.base import Sampler
from search.samplers.walk import WalkSampler
from spaces.design import Design, Member
from spaces.errors import ConfigError, LimitError, ModelError
from spaces.objectives import ACCURACY, GUARDS, KL, LATENCY, OBJECTIVES, Bound, Objective, latency_at
from spaces.space import Axis, Space
from spaces.target import Device, Target

if TYPE_CHECKING:
    from evaluators.device_profile import DeviceProfile
    from evaluators.metrics.lane import Lane
    from evaluators.prepare import Assignment, Prepared
    from evaluators.runtimes.base import Runtime
    from evaluators.tasks.base import Splits, Task
    from evaluators.tasks.splits import SplitSizes
    from spaces.axes.quantization import QuantizationAxis

logger = logging.getLogger(__name__)

# In a checkpoint that `finetune` wrote: which rows it was trained on.
TRAINED_ON = "trained_on.json"

# Members whose sizes tell what bytes are a sum of.
_SIZED_SEEDS, _SIZED_SAMPLES = 24, 24


def check(config: RunConfig) -> None:
    """Everything that can be wrong and costs nothing to find out."""
    names.known("samplers", config.search.sampler)
    if config.search.runner == "tune" and config.search.trial_timeout is not None:
        raise ConfigError("--trial-timeout goes with --runner ray: Ray Tune does not end single trials. Leave one out.")
    for each in config.target:
        names.known("runtimes", each.runtime)
    _check_targets(config)
    task(config)
    if config.recover.unlabeled is not None:
        from evaluators.tasks.files import unlabeled_texts

        unlabeled_texts(Path(config.recover.unlabeled))
    widths = config.space.quantization
    executed = _runtime(config).bits
    for bits in ((widths.bits or ()) + (widths.embeddings or ())) if widths else ():
        if bits not in executed:
            raise ConfigError(
                f"space.quantization: {_runtime(config).name} does not execute {bits} bits. Choose from {executed}."
            )
    if config.space.vocabulary and config.space.vocabulary.others == "shared" and _runtime(config).name == "torch":
        raise ConfigError(
            "space.vocabulary.others: torch has no shared rows for rare words. Write gone, or leave it out."
        )
    if not config.space.pruning and not config.space.quantization:
        raise ConfigError("space: pruning and quantization are both false, so there is nothing to search. Allow one.")


def _check_targets(config: RunConfig) -> None:
    known = targets(config)
    labels = [each.label for each in known]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"target: two of {', '.join(labels)} have one label. Give each a label of its own.")
    for name in ("runtime", "batch_size"):
        found = {getattr(each, name) for each in known}
        if len(found) > 1:
            raise ConfigError(
                f"target: {name} differs ({', '.join(sorted(map(str, found)))}), but the targets of a run share their "
                "models and the answers these are judged by. Search for each in a run of its own."
            )
    unknown = sorted(config.limits.at.keys() - set(labels[1:]))
    if unknown:
        raise ConfigError(
            f"limits: {unknown[0]!r} is no further target of this run; found {', '.join(labels[1:]) or 'none'}. "
            "Limit the first target's latency without a label; limits of a run stand in its config.resolved.yaml."
        )
    if config.verify.cascades and not is_here(config, known[0]):
        raise ConfigError(
            f"--cascades: cascades are chosen by measured latency, and {labels[0]} is another machine. Leave them out, "
            "or put a target of this machine first."
        )


def prepare_run(config: RunConfig, folder: Path, display: Display) -> "Prepared":
    """Everything a run needs before its first design; what is on disk already is read back."""
    return _prepared(assignment(config), folder, display)


def prepare_given(config: RunConfig, folder: Path, display: Display, attention: tuple[str, ...]) -> "Prepared":
    """What a run needs of one design that is known: nothing that serves to choose units and widths.

    Args:
        config: of the run.
        folder: the run's.
        display: shows progress.
        attention: kinds in the design's layers, which the configuration need not ask for.
    """
    asked = assignment(config)
    kinds = tuple(dict.fromkeys((*asked.attention, *attention)))
    return _prepared(replace(asked, attention=kinds, ranked=False, sensitivity=False), folder, display)


def _prepared(asked: "Assignment", folder: Path, display: Display) -> "Prepared":
    from evaluators.prepare import prepare

    prepared = prepare(asked, folder, display.stage)
    if (remark := _trained_elsewhere(asked, prepared.texts)) is not None:
        display.say(remark)
    return prepared


def _trained_elsewhere(asked: "Assignment", texts: "Splits") -> str | None:
    """What is to be said of a checkpoint that was fine-tuned on other rows than this run trains on."""
    known = Path(asked.model) / TRAINED_ON
    if not known.is_file() or json.loads(known.read_text())["train"] == texts.train.sha256:
        return None
    return (
        f"{asked.model} was fine-tuned on other train rows than this run's: it may know rows that judge it here, and "
        f"then figures are too good. Fine-tune it with --split-seed {asked.seed} on the same data."
    )


def refuse_another_architecture(config: RunConfig, original: Path) -> None:
    """A design says which units of which layers stay: it is one of models of the same sizes.

    Args:
        config: of the new run.
        original: folder of the old run's baseline `fair`.

    Raises:
        ModelError: the sizes differ.
    """
    from evaluators.models import architecture

    trusted = config.trust_remote_code
    kind, shape = architecture(config.model, trust_remote_code=trusted)
    expected, sizes = architecture(str(original), trust_remote_code=trusted)
    found = {name: (own, getattr(sizes, name)) for name, own in vars(shape).items() if own != getattr(sizes, name)}
    if kind != expected:
        found["model_type"] = (kind, expected)
    if found:
        differs = ", ".join(f"{name} {own} instead of {other}" for name, (own, other) in found.items())
        raise ModelError(
            f"{config.model} is another architecture than the run's original: {differs}. Give a checkpoint of the same "
            "one, or search anew: paretoformer search --model."
        )


def assignment(config: RunConfig) -> "Assignment":
    """What is to be compressed, for where."""
    from evaluators.prepare import Assignment
    from evaluators.store import Store
    from evaluators.training.finetune import FinetuneSettings

    own_task = task(config)
    return Assignment(
        model=config.model,
        task=own_task,
        runtime=_runtime(config),
        target=targets(config)[0],
        further=targets(config)[1:],
        profiles=profiles(config),
        seed=config.search.seed,
        finetune=FinetuneSettings(
            epochs=config.finetune.epochs,
            learning_rate=config.finetune.learning_rate,
            batch_size=config.finetune.batch_size,
            averaged=config.finetune.averaged,
            consistency=config.finetune.consistency,
        ),
        max_length=config.finetune.max_length or own_task.max_length,
        timing_inputs=config.verify.inputs,
        importance_rounds=(config.space.pruning or PruningConfig()).rounds,
        ffn_group=(config.space.pruning or PruningConfig()).ffn_group,
        sensitivity={32, 8} <= set(_widths(config, _runtime(config))["blocks"]),
        compensate=compensates(config),
        smooth=smooths(config),
        attention=attention_kinds(config),
        compression=compression_levels(config),
        distill=_distillation(config),
        vocabulary=bool(config.space.vocabulary),
        exact_rows=_exact_rows(config),
        lane=lane(config),
        store=Store() if config.cache else None,
        latency_age=config.cache.latency_age if config.cache else 0.0,
        unlabeled=None if config.recover.unlabeled is None else Path(config.recover.unlabeled),
        mixed=config.recover.mixed if config.recover.members and not own_task.medium.of_files else 0,
        trust_remote_code=config.trust_remote_code,
    )


def compensates(config: RunConfig) -> bool:
    """Whether what pruning leaves is refitted to stand in for what goes."""
    return (config.space.pruning or PruningConfig(compensate=False)).compensate and not config.masks_only


def smooths(config: RunConfig) -> bool:
    """Whether wide inputs are narrowed where 8 bits round them."""
    asked = config.space.quantization or QuantizationConfig(smooth=False)
    return asked.smooth and 8 in _widths(config, _runtime(config))["blocks"]


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


def task(run: RunConfig) -> "Task":
    """Where the rows come from.

    Raises:
        DataError: rows that cannot be used.
        ModelError: there are no labels, and no model that answers by itself.
    """
    from evaluators.tasks.columns import Reading
    from evaluators.tasks.files import FileTask
    from evaluators.tasks.hub import HubTask
    from evaluators.tasks.mail_spam import MailSpam
    from evaluators.tasks.movie_reviews import MovieReviews
    from evaluators.tasks.splits import SplitSizes

    config, sizes = run.task, SplitSizes(**run.task.splits.model_dump())
    if config.data is not None:
        return _unlabeled(run, sizes)
    if config.folder is not None:
        from evaluators.metrics.accuracy import Metric
        from evaluators.models import class_names
        from evaluators.tasks.folders import FolderTask

        classes = class_names(run.model, trust_remote_code=run.trust_remote_code)
        return FolderTask(config.folder, classes, Metric.named(config.metric, goal=config.goal), sizes)
    reading = Reading(
        config.text, config.pair, config.label, config.problem, config.metric, config.goal, sizes, config.slice
    )
    if config.file is not None:
        return FileTask(config.file, reading)
    if config.dataset is not None:
        return HubTask(config.dataset, config.config, reading, split=config.part)
    named: dict[str, Callable[[SplitSizes, str], Task]] = {"movie-reviews": MovieReviews, "mail-spam": MailSpam}
    return named[names.known("tasks", config.name or "")](sizes, config.metric)


def _unlabeled(run: RunConfig, sizes: "SplitSizes") -> "Task":
    from evaluators.models import own_classes
    from evaluators.tasks.folders import UnlabeledFolder
    from evaluators.tasks.unlabeled import UnlabeledTask

    path, classes = Path(run.task.data or ""), own_classes(run.model, trust_remote_code=run.trust_remote_code)
    if path.is_dir():
        return UnlabeledFolder(path, classes, sizes)
    found = UnlabeledTask(path, classes, run.task.text, sizes)
    _not_read(path, run.task.label)
    return found


@cache
def _not_read(path: Path, label: str) -> None:
    """Says once that labels are there, but were not asked for."""
    from evaluators.tasks.files import read_columns

    if path.suffix.lower() != ".txt" and label in read_columns(path):
        logger.warning(
            "%s has a column %r, which is not read: --data is of texts without labels, --task of rows with them.",
            path,
            label,
        )


def _runtime(config: RunConfig) -> "Runtime":
    first = targets(config)[0]
    if first.runtime == "torch":
        from evaluators.runtimes.torch import TorchRuntime

        return TorchRuntime()
    from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

    return OnnxRuntime(first.device)


def profiles(config: RunConfig) -> "dict[str, DeviceProfile]":
    """By label the targets that are described in files, whatever machine they are."""
    return {profile.target.label: profile for each in config.target if (profile := _described(each)) is not None}


def targets(config: RunConfig) -> tuple[Target, ...]:
    """Where the models will be served, the first one primary."""
    return tuple(_target(config, each) for each in config.target)


def _target(config: RunConfig, asked: TargetConfig) -> Target:
    described = _described(asked)
    if described is not None:
        return described.target
    device, chips = _device(config, asked.device)
    return Target(
        label=asked.label or "here",
        device=device,
        processor=chips,
        runtime=asked.runtime,
        runtime_version=runtime_version(asked.runtime),
        threads=asked.threads,
        batch_size=asked.batch_size or (GPU_ROWS if device == "cuda" else 1),
        lengths=asked.lengths,
    )


def _described(asked: TargetConfig) -> "DeviceProfile | None":
    """What a target's file says, under the label and for the lengths of the configuration."""
    from evaluators.device_profile import DeviceProfile

    if asked.profile is None:
        return None
    known = DeviceProfile.read(Path(asked.profile))
    label = asked.label or known.target.label
    return replace(known, target=replace(known.target, label=label, lengths=asked.lengths))


def _device(config: RunConfig, asked: Device) -> tuple[Device, str]:
    """The device that there is, and its chips: a CPU where a GPU is asked for in vain, which is said once."""
    where = lane(config)
    if asked == "cuda" and not where.chips("cuda"):
        _no_gpu(where.node)
        return "cpu", where.chips("cpu")
    return asked, where.chips(asked)


@cache
def _no_gpu(node: str) -> None:
    logger.warning("A GPU is asked for, and %s has none: everything is measured on its CPU.", node)


def lane(config: RunConfig) -> "Lane":
    """Where latencies are measured: on the cluster's node for timing if it has one, else on this machine."""
    return _lane(config.search.address)


@cache
def _lane(address: str | None) -> "Lane":
    from evaluators.metrics.host import chips
    from evaluators.metrics.lane import LocalLane
    from evaluators.metrics.launch import run_worker

    if address is None:
        return LocalLane()
    from search.runners import ray_pool
    from search.runners.ray_lane import RayLane

    ray_pool.connect(address)
    return RayLane(run_worker, chips) if RayLane.offered() else LocalLane()


def is_here(config: RunConfig, target: Target) -> bool:
    """Whether the lane can measure for a target: the same processor, libraries and device."""
    return replace(here(target), processor=lane(config).chips(target.device)).key == target.key


def here(target: Target) -> Target:
    """The same setting on this machine, labelled with its name."""
    from evaluators.metrics.host import chips, host_label

    version = runtime_version(target.runtime)
    return replace(target, label=host_label(), processor=chips(target.device), runtime_version=version)


def runtime_version(runtime: str) -> str:
    """Of the library behind it, as installed here."""
    if runtime == "torch":
        from evaluators.runtimes.torch import TorchRuntime

        return TorchRuntime.version
    from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

    return OnnxRuntime.version


def space(config: RunConfig, prepared: "Prepared") -> Space:
    """The axes that are asked for, over what the runtime executes; of a recipe, its own encoding of them."""
    from spaces.axes.attention import Attention, AttentionAxis, forget_absent_attention
    from spaces.axes.compression import Compression, CompressionAxis
    from spaces.axes.pruning import PruningAxis
    from spaces.axes.quantization import forget_absent_parts

    executed = prepared.assignment.runtime.bits
    axes: list[Axis]
    if is_recipe(config):
        axes = list(_recipe(config, prepared).axes)
    else:
        units = config.space.pruning or PruningConfig(blocks=False, heads=False, ffn=False)
        pruning = PruningAxis(
            prepared.shape,
            prepared.importance,
            prepared.workload.latency.unit_costs(8 if 8 in executed else max(executed)),
            ffn_group=units.ffn_group,
            blocks=units.blocks,
            heads=units.heads,
            ffn=units.ffn,
        )
        kinds = attention_kinds(config)
        axes = [pruning, _quantization(config, prepared), *([AttentionAxis(prepared.shape, kinds)] if kinds else [])]
    axes += _vocabulary_axes(config, prepared)
    if levels := compression_levels(config):
        axes.append(CompressionAxis(levels))
    rules = [forget_absent_parts, forget_absent_attention]
    return Space(axes, rules, families=[Attention, Compression])


def _quantization(config: RunConfig, prepared: "Prepared") -> "QuantizationAxis":
    from spaces.axes.quantization import QuantizationAxis

    widths = _widths(config, prepared.assignment.runtime)
    return QuantizationAxis(prepared.shape, widths["blocks"], widths["tables"], prepared.sensitive)


def _vocabulary_axes(config: RunConfig, prepared: "Prepared") -> list[Axis]:
    from spaces.axes.rare import RareAxis
    from spaces.axes.vocabulary import VocabularyAxis

    axes: dict[str, Callable[..., Axis]] = {"vocabulary": VocabularyAxis, "rare": RareAxis}
    return [axes[family](prepared.shape, sizes) for family, sizes in _token_sizes(config, prepared).items()]


def _token_sizes(config: RunConfig, prepared: "Prepared") -> dict[str, list[int]]:
    """By family, how many tokens may stay, or keep a row of their own; all besides."""
    from evaluators.vocabulary import exact_rows

    if not config.space.vocabulary or prepared.vocabulary is None:
        return {}
    sizes = [exact_rows(prepared.vocabulary, share) for share in config.space.vocabulary.shares]
    return {"vocabulary" if _exact_rows(config) is None else "rare": sizes}


def _recipe(config: RunConfig, prepared: "Prepared") -> Recipe:
    longest = max(prepared.workload.splits["search"].first(config.score_rows).lengths)
    return recipe(config, prepared.shape, prepared.importance, _quantization(config, prepared), longest)


def attention_kinds(config: RunConfig) -> tuple[str, ...]:
    """Kinds of attention to choose from beside soft, in search and recipe; none where that is the only one."""
    searched = config.space.attention.options if config.space.attention else ()
    walked = {"axformer": f"hard@{config.axformer.k}", "significance": f"sign@{config.significance.k}"}
    return tuple(dict.fromkeys((*searched, *(walked[name] for name in walked if name == config.search.sampler))))


def compression_levels(config: RunConfig) -> tuple[float, ...]:
    """Shares of a row's tokens to choose from beside all of them; none where that is the only one."""
    return config.space.compression.options if config.space.compression else ()


def _exact_rows(config: RunConfig) -> float | None:
    """The least share of the tokens in use whose rows stay exact; None where no rows are put together."""
    asked, able = config.space.vocabulary, _runtime(config).name == "onnxruntime"
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
    """A limit below a model without any block is the caller's mistake, found before any trial; as is one on groups of
    which none has rows enough."""
    _refuse_uncountable(bounds, config, prepared)
    from spaces.axes.compression import WHOLE, Compression
    from spaces.axes.pruning import LayerUnits, Pruning
    from spaces.axes.quantization import LayerBits, Quantization
    from spaces.design import Member

    gone, widths = (None,) * (prepared.shape.layers - 1), _widths(config, prepared.assignment.runtime)
    pruning = Pruning((LayerUnits((), ()), *gone))
    bits = Quantization((LayerBits(None, None), *gone), min(widths["tables"]), min(widths["blocks"]))
    empty = Member((pruning, bits))
    read = [Compression(level) for level in (WHOLE, *compression_levels(config))]
    least = {
        "latency": min(prepared.workload.latency.predict_ms(Member((pruning, bits, each))) for each in read),
        "size": float(prepared.workload.template.size(empty)),
    }
    for bound in bounds:
        if bound.name in least and bound.excess(least[bound.name]) > 0:
            raise LimitError(
                f"The {bound.name} limit {bound.asked} contradicts the space: without any block left the model has "
                f"{least[bound.name]:.4g} {bound.unit}. Relax the limit, or widen the space."
            )


def _refuse_uncountable(bounds: tuple[Bound, ...], config: RunConfig, prepared: "Prepared") -> None:
    from evaluators.metrics.guards import FEWEST_IN_GROUP, guards

    for split, rows in (("search", config.score_rows), ("confirm", None)):
        some, answers = prepared.workload.splits[split].first(rows), prepared.reference[split][:rows]
        labels = some.truth if some.labels else None
        known = guards(prepared.assignment.task.problem, answers, answers, labels, some.slices)
        for bound in bounds:
            if bound.name in GUARDS and bound.name not in known:
                raise LimitError(
                    f"The {bound.name} limit needs a group of at least {FEWEST_IN_GROUP} rows, and no group of the "
                    f"{len(some)} {split} rows is so large. Drop the limit, or give more rows."
                )


def objectives(config: RunConfig) -> tuple[Objective, ...]:
    """What the front is over: latency once per target."""
    named = tuple(OBJECTIVES[name] for name in config.objectives)
    further = tuple(latency_at(each.label) for each in targets(config)[1:])
    return named + (further if LATENCY in named else ())


def told(config: RunConfig) -> tuple[Objective, ...]:
    """What trials are told: quality stands in for accuracy while searching."""
    quality = KL if config.quality == "kl" else ACCURACY
    return tuple(quality if each == ACCURACY else each for each in objectives(config))


def record(
    config: RunConfig,
    folder: Path,
    bounds: tuple[Bound, ...],
    space: Space,
    prepared: "Prepared",
    study: str = "search",
) -> Record:
    """The run's record, opened again if it exists; other limits or targets open a further study beside the old one."""
    storage = config.search.storage
    if not Record.exists(folder, storage=storage, study=study):
        return Record.create(folder, objectives=told(config), bounds=bounds, storage=storage, study=study)
    found = Record.open(folder, storage=storage, study=study)
    return found.reopen_with(bounds, told(config), speeds(space, prepared))


def speeds(space: Space, prepared: "Prepared") -> Figures:
    """Of a finished trial, what the run's targets say of its speed now, where it was told something else."""
    workload = prepared.workload

    def changed(trial: Trial) -> Mapping[str, float]:
        now = workload.speeds(space.member(trial.decoded, trial.weights))
        known = trial.figures
        return {name: value for name, value in now.items() if not isclose(known.get(name, 0.0), value, rel_tol=1e-9)}

    return changed


def sampler(
    config: RunConfig, record: Record, space: Space, prepared: "Prepared", folder: Path, display: Display
) -> Sampler:
    """What proposes designs from all that the record holds."""
    from search.samplers import optuna_bridge as bridge
    from search.samplers.auto import AutoSampler

    common: Any = {"seeds": space.seeds(), "seed": config.search.seed, "trials": config.search.trials or TRIALS}
    if config.search.sampler == "auto":
        return AutoSampler(record, space, foreseer=foreseer(config, space, prepared, folder, display), **common)
    makers = {"nsga2": bridge.nsga2, "tpe": bridge.tpe, "gp": bridge.gp, "random": bridge.random}
    return bridge.OptunaSampler(record, space, makers[config.search.sampler], **common)


def foreseer(config: RunConfig, space: Space, prepared: "Prepared", folder: Path, display: Display) -> Foreseer | None:
    """What is known of members beforehand; None where proposals are to do without."""
    from evaluators.damage import FILE, Varied, damage
    from evaluators.foresight import TransformerForesight

    if not config.search.surrogate:
        return None
    runtime, sizes = prepared.assignment.runtime, _token_sizes(config, prepared)
    narrower = {
        name: [width for width in widths if width != runtime.bits[0]]
        for name, widths in _widths(config, runtime).items()
    }
    varied = Varied(
        bits=narrower["blocks"],
        embeddings=narrower["tables"],
        kinds=attention_kinds(config),
        levels=compression_levels(config),
        vocabulary=sizes.get("vocabulary", ()),
        exact=sizes.get("rare", ()),
    )
    alone = damage(prepared.workload, prepared.importance, varied, folder / FILE, display.stage)
    rng = Random(config.search.seed)
    designs = [*space.seeds()[:_SIZED_SEEDS], *(space.sample(rng) for _ in range(_SIZED_SAMPLES))]
    return TransformerForesight.fitted(prepared.workload, alone, [space.decode(design) for design in designs])


def race(config: RunConfig, record: Record) -> Callable[[], Race | None]:
    """What the next design has to beat, where hopeless ones may be stopped."""
    return Racing(record) if config.search.racing else lambda: None


def walk_sampler(config: RunConfig, record: Record, space: Space, prepared: "Prepared") -> WalkSampler:
    """The recipe's walk, from the original on, over the record of its own study."""
    walk, start = _recipe(config, prepared).walk, space.identity()
    return WalkSampler(record, space, lambda: walk(start), workers(config))


def outcome(config: RunConfig, prepared: "Prepared", space: Space, settled: Design) -> list[Member]:
    """The member that a recipe settled on, and what it looked at because of it."""
    return _recipe(config, prepared).outcome(space, settled)


def most_designs(config: RunConfig, prepared: "Prepared") -> int:
    """How many designs may be evaluated: as many as were asked for; a recipe ends by itself."""
    return config.search.trials or (_recipe(config, prepared).most if is_recipe(config) else TRIALS)


def evaluator(config: RunConfig, prepared: "Prepared") -> "Callable[[], Evaluator]":
    """What workers make: the evaluator of the workload, which looks up what earlier runs scored."""
    from evaluators.kept_scores import KeptScores
    from evaluators.store import Store
    from evaluators.transformer import TransformerEvaluator

    if config.cache and config.cache.quality:
        return partial(KeptScores, prepared.workload, Store(), reuse_prefixes=is_recipe(config))
    return partial(TransformerEvaluator, prepared.workload, reuse_prefixes=is_recipe(config))


def workers(config: RunConfig) -> int:
    return config.search.workers or max(1, (os.cpu_count() or 1) // _threads(config))


def _threads(config: RunConfig) -> int:
    """Cores that one evaluation needs: those of the target, unless that is another machine."""
    first = targets(config)[0]
    return first.threads if is_here(config, first) else 1


def runner(config: RunConfig, make: Any, *, timeout: float | None = None) -> Runner:
    """Where jobs run; `timeout` ends a job after so many seconds, for which it needs a process of its own."""
    asked, device = config.search, targets(config)[0].device
    count = workers(config)
    elastic = asked.address is not None and asked.workers is None
    shared = 1.0 if elastic else 1 / count  # all of them on one GPU, if nothing is said
    where: dict[str, Any] = {
        "address": asked.address,
        "cpus_per_worker": asked.cpus_per_worker or _threads(config),
        "gpus_per_worker": asked.gpus_per_worker or (shared if device == "cuda" else 0.0),
    }
    if asked.runner == "tune":
        from search.runners.tune import TuneRunner

        return TuneRunner(make, workers=count, **where)
    if count == 1 and asked.address is None and timeout is None:
        return InlineRunner(make)
    from search.runners.ray_pool import RayRunner

    return RayRunner(make, workers=None if elastic else count, timeout=timeout, **where)
