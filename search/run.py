"""A run from its configuration to its front: what wiring.py builds, called in order.

Imports concrete evaluators inside functions, so that reading a run never loads torch.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.base import Job, Score, Train
from search import front_file, present, wiring
from search.config import RunConfig, merged, refuse_foreign
from search.front_file import FrontFile
from search.ledger import Outcome
from search.loop import Meter, Summary
from search.loop import run as loop
from search.progress import Display
from search.recipes import confirming, is_recipe, study
from search.record import Record
from search.remeasured import off, remeasured
from search.runners.base import Runner, evaluated
from search.runners.inline import InlineRunner
from search.so_far import driving, read_config, write_config
from spaces.errors import CallerError, ConfigError, ParetoformerError, RunError
from spaces.objectives import Evaluation, Failed
from spaces.space import Space

if TYPE_CHECKING:
    from evaluators.ladder.steps import Settings
    from evaluators.prepare import Prepared
    from evaluators.tasks.base import Splits
    from search.situation import Situation
    from spaces.design import Member
    from spaces.objectives import Bound

SUMMARY = "search.json"
# The study of members that were given, not searched for.
GIVEN = "given"
# Members verified, if nothing is said: of a search, and of a recipe alone, which settles on one.
_MEMBERS, _MEMBERS_OF_RECIPES = 24, 4
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
    with _fresh(config, folder) as config:
        return _go_on(config, folder, display or Display(), prepared)


@dataclass(frozen=True)
class Training:
    """A member as it was before it was trained, and for how long that was asked to be."""

    decoded: Mapping[str, Any]
    weights: str
    epochs: int


@dataclass(frozen=True)
class Given:
    """A member that is known and not searched for.

    Args:
        decoded: its design.
        weights: id of its weights.
        trainings: by which these come about, first to last; none where they are the original's.
        files: of another run of the same architecture that hold for this one too.
    """

    decoded: Mapping[str, Any]
    weights: str
    trainings: tuple[Training, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def attention(self) -> tuple[str, ...]:
        """Kinds of attention in its layers, but for soft."""
        kinds = (layer.get("attention", "soft") for layer in self.decoded["layers"] if layer is not None)
        return tuple(dict.fromkeys(kind for kind in kinds if kind != "soft"))


def given(config: RunConfig, folder: Path, member: Given, display: Display | None = None) -> FrontFile:
    """A new run in `folder` of one member, in a study of its own: trained if it is to be, scored, verified.

    Args:
        config: as of a search.
        folder: must not exist, or be empty.
        member: what is made of the configuration's model.
        display: shows progress.

    Raises:
        RunError: the folder is in use.
        CallerError: whatever is wrong with the configuration, the model or the data.
        ParetoformerError: the member could not be trained or scored.
    """
    from search.verify import verify_front

    shown = display or Display()
    with _fresh(config, folder) as config, closing(shown), driving(folder):
        for path in member.files:
            shutil.copy(path, folder)
        prepared = wiring.prepare_given(config, folder, shown, member.attention)
        space, bounds = wiring.space(config, prepared), wiring.bounds(config, prepared.fair)
        scene = _Scene(config, folder, prepared, space, shown)
        wiring.record(config, folder, bounds, space, prepared)  # of a search, should one go on from here
        make = wiring.evaluator(config, prepared)
        with closing(InlineRunner(make)) as runner:
            _make(scene, member, wiring.record(config, folder, bounds, space, prepared, GIVEN), runner)
        record = Record.open(folder, storage=config.search.storage)
        record.write_csv()
        situation = replace(_situation(scene, record), pool=partial(InlineRunner, make), gains=False, cascades=0)
        front = verify_front(situation, shown.stage)
        present.write_pictures(folder, shown.say)
    return front


@contextmanager
def _fresh(config: RunConfig, folder: Path) -> Iterator[RunConfig]:
    """A new run's folder with its configuration, which is given back as it is kept.

    Raises:
        RunError: the folder is in use.
    """
    wiring.check(config)
    if folder.exists() and any(folder.iterdir()):
        cure = f"Go on with `paretoformer resume {folder}`, or name another folder with --out."
        raise RunError(f"{folder} is not empty. {cure}")
    folder.mkdir(parents=True, exist_ok=True)
    config = write_config(folder, config, [each.label for each in wiring.targets(config)])
    (folder / "env.json").write_text(json.dumps(_environment(), indent=2))
    try:
        yield config
    except CallerError:
        if not Record.exists(folder, storage=config.search.storage):
            shutil.rmtree(folder)  # nothing was searched; the corrected command may use the same folder
        raise


def resume(folder: Path, flags: Mapping[str, Any], display: Display | None = None) -> int:
    """Go on with a run; flags that were given replace the run's own settings."""
    before = read_config(folder)
    content = before.model_dump(mode="json")
    if flags.get("search.sampler") not in (None, before.search.sampler):
        content["search"]["trials"] = None  # what one sampler may spend is not another's: a recipe ends by itself
    config = RunConfig.parse(merged(content, flags))
    refuse_foreign(config, flags)
    wiring.check(config)
    if wiring.compensates(config) != wiring.compensates(before):
        raise RunError(
            f"{folder}: pruning with compensate {wiring.compensates(before)} and {wiring.compensates(config)} makes "
            "different models of one design; a run has one of them. Start a new run folder (--out)."
        )
    return _go_on(config, folder, display or Display())


def verify(folder: Path, display: Display | None = None) -> int:
    """Measure a run's front again without searching on."""
    config = read_config(folder)
    shown = display or Display()
    with closing(shown), driving(folder):
        prepared = wiring.prepare_run(config, folder, shown)
        space = wiring.space(config, prepared)
        record = Record.open(folder, storage=config.search.storage)
        return _verify(_Scene(config, folder, prepared, space, shown), record, again=True)


def verify_here(folder: Path, display: Display | None = None) -> int:
    """Measure the exported members of a run on this machine, which need not be the one that searched.

    A target of the run that this machine is gets these figures; otherwise they stand under the machine's name.

    Returns:
        0, or 3 if limits were given and nothing meets them.

    Raises:
        RunError: nothing is exported yet, or the task has other rows here.
    """
    from evaluators.elsewhere import remeasure

    front, config = front_file.read(folder), read_config(folder)
    exported = {member.key: folder / member.artifact for member in front.members if member.verified and member.artifact}
    if not exported:
        raise RunError(f"{folder} has no exported member. Run: paretoformer verify {folder}")
    if config.task.folder is not None:  # its classes are numbered as the model's, which need not be here
        config = config.model_copy(update={"model": str(folder / str(front.baselines["fair"].artifact))})
    task, shown = wiring.task(config), display or Display()
    with closing(shown), driving(folder):
        texts = task.splits(config.search.seed)
        _same_rows(front, texts)
        known = front.situations()
        target = next((each for each in known if wiring.here(each).key == each.key), wiring.here(known[0]))
        found = remeasure(
            exported,
            {name: folder / str(each.artifact) for name, each in front.baselines.items() if each.artifact},
            folder / "predictions",
            task,
            texts,
            target,
            inputs=config.verify.inputs,
            rounds=config.verify.rounds,
            processes=config.verify.processes,
            seed=config.search.seed,
            watch=shown.stage,
        )
        result = remeasured(front, target, found)
        front_file.write(folder, result)
        present.write_pictures(folder, shown.say)
        shown.say(present.confirmed(result, target.label, off(front, found, target.label)))
    return _exit_code(result)


def _same_rows(front: FrontFile, texts: "Splits") -> None:
    """The run's rows are known by their hashes; others would say nothing of its members."""
    for name, split in front.splits.items():
        if getattr(texts, name).sha256 != split.sha256:
            raise RunError(
                f"The {name} rows are not those of {front.run}: the task's data differ here. Bring the data that the "
                "run was made with."
            )


def fresh_folder(config: RunConfig) -> Path:
    """A folder under results/ that is not in use, named after model, task and time."""
    task = config.task.name or Path(config.task.source).stem
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
        evaluations = [evaluated(evaluator, Score(member, config.score_rows)) for member in timed]
    per_design = sum(evaluation.seconds for evaluation in evaluations) / len(evaluations)
    members = {name: space.decode(design) for name, design in space.extremes().items()}
    figures = {
        name: (prepared.workload.latency.predict_ms(member), prepared.workload.template.size(member))
        for name, member in members.items()
    }
    print(
        present.forecast(
            space.describe(), figures, per_design, wiring.most_designs(config, prepared), wiring.workers(config)
        )
    )


def finetune(
    config: RunConfig, out: Path, *, seed: int, split_seed: int | None = None, display: Display | None = None
) -> None:
    """Fine-tune on the task's train split, as a search would, and write a `save_pretrained` folder.

    Args:
        config: names model, task and training.
        out: folder for the checkpoint.
        seed: draws a new head, the order of the rows and, unless `split_seed` does, the splits.
        split_seed: draws the splits: of runs that shall judge the checkpoint by rows that it was not trained on.
        display: shows progress.

    Raises:
        RunError: `out` is in use.
    """
    from evaluators.models import ensure_finetuned

    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty. Name another folder with --out.")
    work = wiring.assignment(config)
    texts = work.task.splits(seed if split_seed is None else split_seed)
    shown = display or Display()
    with closing(shown):
        checkpoint = ensure_finetuned(
            config.model,
            work.task,
            texts,
            settings=work.finetune,
            seed=seed,
            max_length=work.max_length,
            trust_remote_code=config.trust_remote_code,
            watch=shown.stage,
        )
    shutil.copytree(checkpoint, out, dirs_exist_ok=True)
    (out / wiring.TRAINED_ON).write_text(json.dumps({"task": work.task.name, "train": texts.train.sha256}))
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
        ConfigError: the task is not of texts.
    """
    from evaluators.ladder.climb import STEPS_FILE, climb
    from search import fastformers as ladder

    if out.exists() and any(out.iterdir()) and not (out / STEPS_FILE).exists():
        raise RunError(f"{out} is not empty. Name another folder with --out.")
    work, shown = wiring.assignment(config), display or Display()
    if work.task.medium.of_files:
        raise ConfigError(
            f"recipe fastformers pads and cuts texts, found files of {work.task.medium.name}. Search them."
        )
    with closing(shown):
        document = ladder.document(climb(work, settings, out, shown.stage), price_per_hour)
    (out / "ladder.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    (out / "ladder.md").write_text(ladder.markdown(document))
    return document


@dataclass(frozen=True)
class _Scene:
    """A run at work: what is asked, where it is kept, on what, in which space, and who watches."""

    config: RunConfig
    folder: Path
    prepared: "Prepared"
    space: Space
    display: Display


def _go_on(config: RunConfig, folder: Path, display: Display, given: "Prepared | None" = None) -> int:
    """Search until the trials or the time are used up, then verify."""
    with closing(display), driving(folder):
        prepared = given or wiring.prepare_run(config, folder, display)
        space = wiring.space(config, prepared)
        bounds = wiring.bounds(config, prepared.fair)
        wiring.refuse_impossible(bounds, config, prepared)
        config = write_config(folder, config, [each.label for each in wiring.targets(config)])
        scene = _Scene(config, folder, prepared, space, display)
        record = wiring.record(config, folder, bounds, space, prepared)
        recovered = _recovered(scene, record)
        display.seen(record.trials())
        meter = Meter(wiring.most_designs(config, prepared), config.search.seconds)
        make = wiring.evaluator(config, prepared)
        with closing(wiring.runner(config, make, timeout=config.search.trial_seconds)) as runner:
            if is_recipe(config):
                summary = _walk(scene, bounds, runner, meter)
            else:
                sampler = wiring.sampler(config, record, space, prepared, folder, display)
                race, rows, watch = wiring.race(config, record), config.score_rows, display.trial
                summary = loop(space, sampler, runner, record, rows=rows, meter=meter, race=race, watch=watch)
        figures = {
            "designs_per_second": summary.designs_per_second,
            "busy_share": summary.worker_busy_share,
            "seconds": summary.seconds,
            "evaluated": summary.evaluated,
        }
        if summary.evaluated:
            (folder / SUMMARY).write_text(json.dumps(figures, indent=2))
        if config.recover.members and recovered is not None:
            _recover(scene, record, recovered)
        return _verify(scene, Record.open(folder, storage=config.search.storage))


def _make(scene: _Scene, asked: Given, record: Record, runner: InlineRunner) -> None:
    """Train and score a member; its figures go to the record."""
    space, member = scene.space, scene.space.member(asked.decoded, asked.weights)
    trainings = [Train(space.member(each.decoded, each.weights), each.epochs) for each in asked.trainings]
    number = record.start(None, member)
    for done, job in enumerate(trainings):
        scene.display.stage("training", done, len(trainings))
        if isinstance(failed := _evaluated(runner, job).outcome, Failed):
            record.finish(number, Evaluation(member.key, failed))
            raise _unmade(member, f"{failed.kind}: {failed.message}")
    scene.display.stage("scoring", 0, 0)
    trial = record.finish(number, _evaluated(runner, Score(member, scene.config.score_rows)))
    if trial.error:
        raise _unmade(member, trial.error)


def _evaluated(runner: InlineRunner, job: Job) -> Evaluation:
    runner.submit(job)
    evaluation = runner.next_done()
    assert evaluation is not None, "one job was submitted"
    return evaluation


def _unmade(member: "Member", why: object) -> ParetoformerError:
    return ParetoformerError(f"{member.key} could not be made of the new weights: {why}")


def _walk(scene: _Scene, bounds: "tuple[Bound, ...]", runner: Runner, meter: Meter) -> Summary:
    """A recipe from where it stands, in a study of its own."""
    config, prepared, space = scene.config, scene.prepared, scene.space
    name, refits = study(config), config.axformer.refit and config.search.sampler == "axformer"
    if refits and prepared.workload.recovery is not None:
        prepared.workload.recovery.source()  # said before the walk, not after it
    record = wiring.record(config, scene.folder, bounds, space, prepared, name)
    sampler = wiring.walk_sampler(config, record, space, prepared)
    rows, watch = config.score_rows, scene.display.trial
    summary = loop(space, sampler, runner, record, rows=rows, meter=meter, watch=watch)
    if (settled := sampler.result) is None:
        scene.display.say(
            f"{name} is not at its end after {summary.done} designs. Go on with: paretoformer resume {scene.folder} "
            f"--trials {2 * summary.done}"
        )
        return summary
    members = wiring.outcome(config, prepared, space, settled)
    own = [trial for trial in map(record.trial, record.ended) if trial.recipe == name]
    losses = {trial.key: trial.extras["loss"] for trial in own if trial.state == "complete"}
    before, after = (losses.get(each.key) for each in (space.decode(space.identity()), members[0]))
    if before is None or after is None:  # the original could not be evaluated, so there was no walk
        return summary
    if refits:
        members = [*_refit(scene, members, record, runner), *members]
    record.settle(Outcome(tuple(member.key for member in members), len(own), before, after))
    return summary


def _refit(scene: _Scene, members: "Sequence[Member]", record: Record, runner: Runner) -> "list[Member]":
    """A recipe's outcome, the first member, fine-tuned from the pre-trained weights, and in the others' widths too."""
    from evaluators.recovery import Recoverer

    recovery = scene.prepared.workload.recovery
    assert recovery is not None, "prepared runs can train"
    weights = Recoverer(recovery).retrain(members[0], lambda done: scene.display.stage("refit", done.step, done.total))
    refitted = [replace(member, weights=weights) for member in members]
    for member in refitted:
        if not record.knows(member.key):
            number = record.start(None, member, "refit", parents=[members[0].key])
            runner.submit(Score(member, scene.config.score_rows))
            evaluation = runner.next_done()
            assert evaluation is not None, "one job was submitted"
            record.finish(number, evaluation)
    return refitted


def _recovered(scene: _Scene, record: Record) -> Record | None:
    """The record of distilled members, under the limits and for the targets of the search's; None if there is none."""
    from search.recover import STUDY

    config, folder, storage = scene.config, scene.folder, scene.config.search.storage
    if Record.exists(folder, storage=storage, study=STUDY):
        old = Record.open(folder, storage=storage, study=STUDY)
        return old.reopen_with(record.bounds, record.objectives, wiring.speeds(scene.space, scene.prepared))
    if not config.recover.members:
        return None
    return Record.create(folder, objectives=record.objectives, bounds=record.bounds, storage=storage, study=STUDY)


def _recover(scene: _Scene, record: Record, recovered: Record) -> None:
    """Distil what deserves it; the members that come out stand in a study of their own."""
    from search.recover import Plan, Recovery, steep
    from spaces.axes.pruning import Pruning
    from spaces.objectives import most_lost

    config, prepared, space = scene.config, scene.prepared, scene.space
    plan = Plan(
        members=config.recover.members,
        epochs=config.recover.epochs,
        rows=config.score_rows,
        family=Pruning.family,
        fair=prepared.fair,
        objectives=config.objectives,
        most_lost=most_lost(record.bounds),
    )
    with closing(wiring.runner(config, wiring.evaluator(config, prepared))) as runner:
        further = steep(space, prepared.workload.latency.predict_ms)
        Recovery(space, record, recovered, runner, plan, scene.display.stage).run(further)
    failed = [trial for trial in recovered.trials() if trial.state == "failed"]
    if failed:
        scene.display.say(
            f"{len(failed)} members could not be trained or scored, the last one for {failed[-1].error}. "
            f"`paretoformer resume {scene.folder}` tries them again; fewer workers or a smaller finetune.max_length "
            "need less memory."
        )
    Record.open(scene.folder, storage=config.search.storage).write_csv()


def _verify(scene: _Scene, record: Record, *, again: bool = False) -> int:
    from search.verify import verify_front

    front = verify_front(_situation(scene, record, again=again), scene.display.stage)
    present.write_pictures(scene.folder, scene.display.say)
    return _exit_code(front)


def _situation(scene: _Scene, record: Record, *, again: bool = False) -> "Situation":
    """What verification has to know of the run."""
    from evaluators.assess import TransformerAssessor
    from search.situation import Situation

    config, folder, prepared, space = scene.config, scene.folder, scene.prepared, scene.space
    make = wiring.evaluator(config, prepared)
    summary, latency = folder / SUMMARY, prepared.workload.latency
    return Situation(
        folder=folder,
        space=space,
        record=record,
        assessor=TransformerAssessor(
            prepared, folder, rounds=config.verify.rounds, processes=config.verify.processes, again=again
        ),
        pool=partial(wiring.runner, config, make),
        inline=partial(InlineRunner, make),
        bounds=wiring.bounds(config, prepared.fair),
        fair=prepared.fair,
        limits={limit.name: limit.asked for limit in config.limits.limits()},
        objectives=wiring.objectives(config),
        members=config.verify.members or (_MEMBERS if record.finished() else _MEMBERS_OF_RECIPES),
        cascades=config.verify.cascades,
        confidence=config.confidence,
        seed=config.search.seed,
        targets={each: wiring.is_here(config, each) for each in wiring.targets(config)},
        splits={name: (len(rows), rows.sha256) for name, rows in vars(prepared.texts).items()},
        latency_model={"spearman": latency.spearman, "mean_error": latency.mean_error, "n": len(latency.held_out)},
        confirming=confirming(config),
        search=json.loads(summary.read_text()) if summary.exists() else {},
        gains=config.quality == "metric",
        metric=config.task.figure,
        remeasure=config.verify.remeasure,
    )


def _exit_code(front: FrontFile) -> int:
    """3 if limits were given and nothing meets them."""
    limits = next((pick for pick in front.picks if pick.name == "limits"), None)
    return 3 if limits is not None and limits.key is None else 0


def _environment() -> dict[str, Any]:
    from evaluators.metrics.host import describe_host, git_commit

    return {**describe_host(), "commit": git_commit(Path(__file__).parent)}
