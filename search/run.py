"""A run from its configuration to its front: what wiring.py builds, called in order.

Imports concrete evaluators inside functions, so that reading a run never loads torch.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.base import Score
from search import present, wiring
from search.config import RunConfig, merged
from search.loop import Meter
from search.loop import run as loop
from search.progress import Display
from search.record import Record
from search.runners.base import evaluated
from search.runners.inline import InlineRunner
from search.so_far import CONFIG, driving, read_config
from spaces.errors import CallerError, RunError
from spaces.knobs import IntRange
from spaces.objectives import OBJECTIVES
from spaces.space import Space

if TYPE_CHECKING:
    from evaluators.ladder.steps import Settings
    from evaluators.prepare import Prepared
    from spaces.design import Member

SUMMARY = "search.json"
# Shares of a model's cost that recovery tries to do without.
_STEEP_CUTS = (0.4, 0.55, 0.7)
# A forecast times this many designs, spread over the ladder.
_FORECAST_DESIGNS = 4


def search(config: RunConfig, folder: Path, display: Display | None = None, prepared: "Prepared | None" = None) -> int:
    """A new run in `folder`: prepare, search, verify, report.

    Args:
        config: everything that decides the run.
        folder: must not exist, or be empty.
        display: shows progress.
        prepared: of an earlier run with the same model, rows, seed and target (`wiring.prepare_run`), to be used again.

    Returns:
        0, or 3 if limits were given and nothing meets them.

    Raises:
        RunError: the folder is in use.
        CallerError: whatever is wrong with the configuration, the model or the data.
    """
    wiring.check(config)
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
    wiring.check(config)
    return _go_on(config, folder, display or Display())


def verify(folder: Path, display: Display | None = None) -> int:
    """Measure a run's front again without searching on."""
    config = read_config(folder)
    shown = display or Display()
    with closing(shown), driving(folder):
        prepared = wiring.prepare_run(config, folder, shown)
        space = wiring.space(config, prepared)
        record = Record.open(folder, storage=config.search.storage)
        return _verify(config, folder, prepared, space, record, shown)


def fresh_folder(config: RunConfig) -> Path:
    """A folder under results/ that is not in use, named after model, task and time."""
    task = config.task.name or Path(config.task.file or config.task.dataset or "task").stem
    return Path("results") / f"{Path(config.model).name}-{task}-{time.strftime('%Y%m%d-%H%M%S')}"


def forecast(config: RunConfig, display: Display | None = None) -> None:
    """Show the space, its extremes and how long a search would take, from a few timed designs; keeps nothing."""
    from evaluators.transformer import TransformerEvaluator

    wiring.check(config)
    shown = display or Display()
    with closing(shown), tempfile.TemporaryDirectory() as scratch:
        prepared = wiring.prepare_run(config, Path(scratch), shown)
        space = wiring.space(config, prepared)
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
    print(present.forecast(space.describe(), figures, per_design, config.search.trials, wiring.workers(config)))


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
    built = wiring.task(config.task)
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
        document = ladder.document(climb(wiring.assignment(config), settings, out, shown.stage), price_per_hour)
    (out / "ladder.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    (out / "ladder.md").write_text(ladder.markdown(document))
    return document


def _go_on(config: RunConfig, folder: Path, display: Display, given: "Prepared | None" = None) -> int:
    """Search until the trials or the time are used up, then verify."""
    from evaluators.transformer import TransformerEvaluator

    with closing(display), driving(folder):
        prepared = given or wiring.prepare_run(config, folder, display)
        space = wiring.space(config, prepared)
        bounds = wiring.bounds(config, prepared.fair)
        wiring.refuse_impossible(bounds, config, prepared)
        (folder / CONFIG).write_text(config.to_yaml())
        record = wiring.record(config, folder, bounds)
        sampler = wiring.sampler(config, record, space)
        meter = Meter(config.search.trials, config.search.seconds)
        make = partial(TransformerEvaluator, prepared.workload)
        with closing(wiring.runner(config, make, timeout=config.search.trial_seconds)) as runner:
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
        most_lost=next((bound.at_most for bound in record.bounds if bound.name == "accuracy_drop"), None),
    )
    with closing(wiring.runner(config, partial(TransformerEvaluator, prepared.workload))) as runner:
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
        pool=partial(wiring.runner, config, make),
        inline=partial(InlineRunner, make),
        bounds=wiring.bounds(config, prepared.fair),
        limits={limit.name: limit.asked for limit in config.limits.limits()},
        objectives=tuple(OBJECTIVES[name] for name in config.objectives),
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


def _environment() -> dict[str, Any]:
    from evaluators.metrics.host import describe_host, git_commit

    return {**describe_host(), "commit": git_commit(Path(__file__).parent)}
