"""The command line. Knows flags and exit codes; every command's work is done elsewhere and imported when needed."""

import errno
import json
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from spaces.errors import CallerError, ConfigError, InfeasibleError, ParetoformerError, RunError

app = typer.Typer(
    help="Search for smaller and faster versions of a fine-tuned transformer; pick one by a latency or size budget.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
recipes = typer.Typer(
    help="Published systems, step by step, measured like everything else.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(recipes, name="recipe")
caches = typer.Typer(
    help="What runs on this machine keep for later ones: scores and latencies, checkpoints, downloads.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(caches, name="cache")

# A disk that is full or over a quota, a folder that is read-only or somebody else's.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

Run = Annotated[Path, typer.Argument(help="Folder of a run, such as results/first.", show_default=False)]
MaxLatency = Annotated[
    list[str] | None,
    typer.Option(help="Mean latency per call: 5ms, or 40% of the original's; LABEL=5ms at a further target."),
]
Targets = Annotated[
    list[Path] | None,
    typer.Option(help="Serving machine: a file that `profile` wrote there. Several: the first one is primary."),
]
MaxSize = Annotated[str | None, typer.Option(help="Bytes of the files needed for inference: 20MB, or 30%.")]
MaxDrop = Annotated[str | None, typer.Option(help="Accuracy that may be lost: 1pt (a point), or 1% (relative).")]
MaxDisagreement = Annotated[
    str | None,
    typer.Option(help="Rows that may be answered otherwise than by the original: 1% of them. No labels needed."),
]
MaxFlips = Annotated[str | None, typer.Option(help="Rows that only the original may have right: 1% of all.")]
MaxClassDrop = Annotated[str | None, typer.Option(help="Accuracy that any class may lose: 2pt.")]
MaxSliceDrop = Annotated[str | None, typer.Option(help="Accuracy that any group of task.slice may lose: 2pt.")]
MaxCalibration = Annotated[
    str | None, typer.Option("--max-calibration-rise", help="Points that the expected calibration error may rise: 2pt.")
]
Trials = Annotated[int | None, typer.Option(help="Designs to evaluate in all.")]
Timeout = Annotated[str | None, typer.Option(help="Stop searching after 90s, 10m or 2h.")]
Confidence = Annotated[float | None, typer.Option(help="Confidence of the certificate.")]
Instances = Annotated[
    str | None, typer.Option(help="Processes that share the rows, each on cores of its own: a number, or auto.")
]
Seed = Annotated[int | None, typer.Option(help="Draws splits, fine-tuning and search.")]
Sampler = Annotated[str | None, typer.Option(help="A name from `list samplers`.")]
Goal = Annotated[str | None, typer.Option(help="Of --sampler significance: faster, smaller or accurate.")]
Literally = Annotated[
    bool, typer.Option("--literal", help="With --sampler axformer: the published rule, without our guards.")
]
Refit = Annotated[
    bool, typer.Option("--refit", help="With --sampler axformer: fine-tune the outcome from the pre-trained weights.")
]
Workers = Annotated[int | None, typer.Option(help="Processes that evaluate designs; 1 per core by default.")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster: auto, or ray://HOST:10001; local: none.")]
TrialTimeout = Annotated[str | None, typer.Option(help="Give an evaluation up after 90s, 10m, ...")]
Cascades = Annotated[
    int | None, typer.Option(help="Cascades of verified members (cheap first, larger on doubt) to build.", min=0)
]
Format = Annotated[str, typer.Option(help="table, json or csv.")]


@app.command(
    epilog="Example: paretoformer search --model minilm --task movie-reviews --max-accuracy-drop 1pt --out results/a"
)
def search(
    config: Annotated[Path | None, typer.Argument(help="A YAML file; flags win over it.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="Folder, Hub id, or a name from `list models`.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="A name from `list tasks`, a CSV, JSONL or Parquet file, or a folder as for --data."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --task: texts without labels (CSV, JSONL, Parquet, lines of .txt), or a folder of files, "
            "DIR/CLASS/* or, without labels, DIR/*."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new run.")] = None,
    quality: Annotated[
        str | None, typer.Option(help="Ranks designs: kl, closeness to the original; metric, to gain accuracy.")
    ] = None,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_accuracy_drop: MaxDrop = None,
    max_disagreement: MaxDisagreement = None,
    max_negative_flips: MaxFlips = None,
    max_class_drop: MaxClassDrop = None,
    max_slice_drop: MaxSliceDrop = None,
    max_calibration_rise: MaxCalibration = None,
    confidence: Confidence = None,
    target: Targets = None,
    trials: Trials = None,
    timeout: Timeout = None,
    sampler: Sampler = None,
    goal: Goal = None,
    literal: Literally = False,
    refit: Refit = False,
    runner: Annotated[str | None, typer.Option(help="ray, or tune: Ray Tune hands the designs out.")] = None,
    workers: Workers = None,
    cpus_per_worker: Annotated[
        float | None, typer.Option(help="Cores per worker; as many as threads by default.")
    ] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(help="GPUs per worker; a fraction shares one.")] = None,
    trial_timeout: TrialTimeout = None,
    address: Address = None,
    storage: Annotated[str | None, typer.Option(help="An Optuna storage URL instead of the run's own file.")] = None,
    seed: Seed = None,
    recover: Annotated[
        int | None, typer.Option(help="Structures to distil from the original after the search; minutes each.", min=0)
    ] = None,
    unlabeled: Annotated[
        Path | None, typer.Option(help="Further texts for distillation: CSV, JSONL, Parquet, or lines of .txt.")
    ] = None,
    cascades: Cascades = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Score and time everything anew; see `cache info`.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the space and a forecast; evaluate a few designs only.")] = False,
) -> None:
    """Search designs, verify the front, and pick."""
    from search import run
    from search.config import RunConfig, merged, read_yaml, refuse_foreign

    if task is not None and data is not None:
        raise ConfigError("A search reads one of --task, which has labels, and --data. Leave one out.")
    flags = {
        "model": model,
        "task": task,
        "task.data": None if data is None else str(data),
        "quality": quality,
        **_latency_limits("limits.", max_latency),
        "limits.size": max_size,
        "limits.accuracy_drop": max_accuracy_drop,
        "limits.disagreement": max_disagreement,
        "limits.negative_flips": max_negative_flips,
        "limits.class_drop": max_class_drop,
        "limits.slice_drop": max_slice_drop,
        "limits.calibration_rise": max_calibration_rise,
        "confidence": confidence,
        "target": _targets(target),
        "search.trials": trials,
        "search.timeout": timeout,
        "search.sampler": sampler,
        **_of_recipe(goal, literal, refit),
        "search.runner": runner,
        "search.workers": workers,
        "search.cpus_per_worker": cpus_per_worker,
        "search.gpus_per_worker": gpus_per_worker,
        "search.trial_timeout": trial_timeout,
        "search.address": address,
        "search.storage": storage,
        "search.seed": seed,
        "recover.members": recover,
        "recover.unlabeled": None if unlabeled is None else str(unlabeled),
        "verify.cascades": cascades,
        "cache": False if no_cache else None,
    }
    resolved = RunConfig.parse(merged(read_yaml(config) if config else {}, flags))
    refuse_foreign(resolved, flags)
    if dry_run:
        run.forecast(resolved)
        return
    folder = out or run.fresh_folder(resolved)
    _show_outcome(folder, _interruptible(folder, lambda: run.search(resolved, folder)))


@app.command(epilog="Example: paretoformer resume results/first --trials 300 --max-latency 3ms")
def resume(
    run_folder: Run,
    trials: Trials = None,
    timeout: Timeout = None,
    sampler: Sampler = None,
    goal: Goal = None,
    literal: Literally = False,
    refit: Refit = False,
    workers: Workers = None,
    trial_timeout: TrialTimeout = None,
    address: Address = None,
    target: Targets = None,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_accuracy_drop: MaxDrop = None,
    max_disagreement: MaxDisagreement = None,
    max_negative_flips: MaxFlips = None,
    max_class_drop: MaxClassDrop = None,
    max_slice_drop: MaxSliceDrop = None,
    max_calibration_rise: MaxCalibration = None,
    recover: Annotated[int | None, typer.Option(help="Structures to distil from the original.", min=0)] = None,
    cascades: Cascades = None,
) -> None:
    """Go on with an interrupted run, elsewhere or otherwise if you like; finished trials still count."""
    from search import run

    flags = {
        "search.trials": trials,
        "search.timeout": timeout,
        "search.sampler": sampler,
        **_of_recipe(goal, literal, refit),
        "search.workers": workers,
        "search.trial_timeout": trial_timeout,
        "search.address": address,
        **_latency_limits("limits.", max_latency),
        "limits.size": max_size,
        "limits.accuracy_drop": max_accuracy_drop,
        "limits.disagreement": max_disagreement,
        "limits.negative_flips": max_negative_flips,
        "limits.class_drop": max_class_drop,
        "limits.slice_drop": max_slice_drop,
        "limits.calibration_rise": max_calibration_rise,
        "target": _targets(target),
        "recover.members": recover,
        "verify.cascades": cascades,
    }
    _show_outcome(run_folder, _interruptible(run_folder, lambda: run.resume(run_folder, flags)))


@app.command(epilog="Example: paretoformer verify results/first --on here")
def verify(
    run_folder: Run,
    on: Annotated[
        str | None,
        typer.Option(help="here: measure what is exported on this machine, which need not be the one that searched."),
    ] = None,
) -> None:
    """Export and measure the front's members again, or with --on here measure those that are exported already."""
    from search import run

    if on not in (None, "here"):
        raise ConfigError(f"--on {on!r} is not known. The only place to measure is 'here', this machine.")
    work = run.verify if on is None else run.verify_here
    _show_outcome(run_folder, _interruptible(run_folder, lambda: work(run_folder)))


@app.command(epilog="Example: paretoformer profile --out device.json --threads 4")
def profile(
    out: Annotated[Path, typer.Option(help="File to write; `search --target` takes it on any machine.")],
    threads: Annotated[int, typer.Option(help="Threads one model may use.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per call; 1 on a CPU and 32 on a GPU by default.", min=1)
    ] = None,
    label: Annotated[str | None, typer.Option(help="Names the machine; its host name by default.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the models that are timed.")] = 0,
) -> None:
    """Time this machine, so that a search anywhere can be for it: about two minutes, with nothing else busy."""
    from search import serving

    _one_of("--device", device, ("cpu", "cuda"))
    asked = {"threads": threads, "device": device, "batch_size": batch_size, "label": label}
    typer.echo(serving.profile(out, asked, seed=seed))


@app.command(epilog="Example: paretoformer status results/first --watch")
def status(
    run_folder: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Show it live until the run ends or Ctrl-C.")] = False,
) -> None:
    """How far a run has come; works while it runs."""
    from search import present, progress

    if watch:
        progress.watch(run_folder)
    typer.echo(present.status(run_folder))


@app.command(epilog="Example: paretoformer front results/first --format csv > front.csv")
def front(
    run_folder: Run,
    format: Format = "table",
    all: Annotated[
        bool, typer.Option("--all", help="Also members that were not verified, and dominated ones.")
    ] = False,
) -> None:
    """The Pareto front: verified members, baselines and picks."""
    from search import present

    typer.echo(present.front(run_folder, _one_of("--format", format, ("table", "json", "csv")), everything=all))


@app.command(epilog="Example: paretoformer select results/first --max-latency 3ms --prefer accuracy --export model/")
def select(
    run_folder: Run,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_accuracy_drop: MaxDrop = None,
    max_disagreement: MaxDisagreement = None,
    max_negative_flips: MaxFlips = None,
    max_class_drop: MaxClassDrop = None,
    max_slice_drop: MaxSliceDrop = None,
    max_calibration_rise: MaxCalibration = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Accuracy on the confirm rows, as a fraction.")] = None,
    prefer: Annotated[str | None, typer.Option(help="accuracy, latency, size or knee.")] = None,
    no_limits: Annotated[bool, typer.Option("--no-limits", help="Drop the limits that the run was given.")] = False,
    target: Annotated[str | None, typer.Option(help="Label of a further target whose figures decide.")] = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="A cascade of members (cheap first, larger on doubt), not a single model.")
    ] = False,
    export: Annotated[Path | None, typer.Option(help="Write the picked model to this folder.")] = None,
    form: Annotated[
        str, typer.Option("--as", help="measured: its very files; torch: its weights in 32 bits, with a small loader.")
    ] = "measured",
    push_to: Annotated[
        str | None, typer.Option(help="Push the folder to ORGANISATION/NAME in the Hugging Face Hub; needs HF_TOKEN.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="If --push-to makes a repository, a private one.")] = False,
    format: Format = "table",
) -> None:
    """Pick the member that fits a budget, and export it."""
    from search import present
    from search.exporting import Export

    if prefer is not None:
        _one_of("--prefer", prefer, ("accuracy", "latency", "size", "knee"))
    given = {
        **_latency_limits("", max_latency),
        "size": max_size,
        "accuracy_drop": max_accuracy_drop,
        "disagreement": max_disagreement,
        "negative_flips": max_negative_flips,
        "class_drop": max_class_drop,
        "slice_drop": max_slice_drop,
        "calibration_rise": max_calibration_rise,
    }
    asked = present.Asked(
        {name: text for name, text in given.items() if text},
        min_accuracy,
        prefer,
        keep=not no_limits,
        cascade=cascade,
        target=target,
    )
    torch = _one_of("--as", form, ("measured", "torch")) == "torch"
    if export is None and (torch or push_to is not None):
        raise ConfigError("--as and --push-to are about the folder of --export. Name one.")
    if private and push_to is None:
        raise ConfigError("--private is about the repository of --push-to. Name one.")
    to = None if export is None else Export(export, _command(), torch=torch, push_to=push_to, private=private)
    typer.echo(present.select(run_folder, asked, to, _one_of("--format", format, ("table", "json"))))


@app.command(
    epilog='Example: paretoformer predict model/ --text "A moving film." Or, on all cores: '
    "paretoformer predict model/ --file reviews.jsonl --instances auto --batch-size 8 > answers.jsonl"
)
def predict(
    model_dir: Annotated[Path, typer.Argument(help="An exported model.", show_default=False)],
    text: Annotated[str | None, typer.Option(help="One text.")] = None,
    pair: Annotated[str | None, typer.Option(help="The second text, of a model that reads pairs.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines with a `text` each, of pairs also a `pair`, or the path of a `file` each; or one file."
        ),
    ] = None,
    instances: Instances = None,
    threads: Annotated[int, typer.Option(help="Threads the model, or each instance, may use.", min=1)] = 1,
    batch_size: Annotated[int, typer.Option(help="Rows per call; those of like length go together.", min=1)] = 1,
) -> None:
    """Run an exported model; one JSON line per text on standard output, in order."""
    from search import serving

    if (text is None) == (file is None):
        raise ConfigError("predict takes one of --text and --file. Example: predict model/ --text 'A moving film.'")
    if text is not None and instances is not None:
        raise ConfigError("--instances shares the rows of a --file among processes; one --text needs none.")
    if pair is not None and text is None:
        raise ConfigError("--pair is the second of two texts. Give the first one with --text.")
    texts = file or [(text or "") if pair is None else (text or "", pair)]
    options = {"threads": threads, "batch_size": batch_size}
    with closing(serving.predict(model_dir, texts, instances=_instances(instances), **options)) as lines:
        for line in lines:
            typer.echo(json.dumps(line))


@app.command(
    epilog="Example: paretoformer bench model/ results/first/baseline/fair --task movie-reviews --instances auto"
)
def bench(
    model_dirs: Annotated[
        list[Path], typer.Argument(help="Exported models; the first is the reference.", show_default=False)
    ],
    task: Annotated[str, typer.Option(help="A name from `list tasks`, or a file.")],
    target: Annotated[Path | None, typer.Option(help="JSON with threads, batch_size, lengths.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads one model may use.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Draws the splits and the timing sample.")] = 0,
    instances: Instances = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per call of --instances; the best of 1, 8 and 32 by default.", min=1)
    ] = None,
    format: Format = "table",
) -> None:
    """Measure exported models side by side: accuracy on the confirm rows, latency, size; rows per second of the whole
    machine with --instances."""
    from search import serving

    if batch_size is not None and instances is None:
        raise ConfigError("--batch-size goes with --instances. The batch of the latency stands in the --target file.")
    printed = serving.bench(
        model_dirs,
        task,
        target,
        threads=threads,
        seed=seed,
        format=_one_of("--format", format, ("table", "json")),
        instances=_instances(instances),
        batch_size=batch_size,
    )
    typer.echo(printed)


@app.command(
    epilog="Example: paretoformer reapply results/first --model retrained/ --out results/second --export model/"
)
def reapply(
    run_folder: Run,
    model: Annotated[str, typer.Option(help="A checkpoint of the run's architecture, fine-tuned anew.")],
    key: Annotated[
        str | None, typer.Option(help="A member's key or a pick's name; the pick limits, else knee, by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new run.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the model to this folder if the limits hold.")] = None,
    format: Format = "table",
) -> None:
    """The design of a run's member on new weights: made, verified and certified again; 3 if its limits no longer
    hold."""
    from search import present, reapplied
    from search import reapply as again
    from search.exporting import Export

    _one_of("--format", format, ("table", "json"))
    if export is not None and export.exists() and any(export.iterdir()):
        raise RunError(f"{export} is not empty. Name another folder with --export.")
    done = _interruptible(run_folder, lambda: again.reapply(run_folder, model, key, out), goes_on=False)
    if export is not None and not done.missed:
        present.select(done.folder, present.Asked({}, None, None, keep=True), Export(export, _command()), "table")
    typer.echo(reapplied.shown(done, format, None if done.missed else export))
    if done.missed:
        found = "no longer holds" if done.held else "does not hold its limits, nor did it before"
        raise InfeasibleError(f"{done.key} made of {model} {found}: {'; '.join(done.missed)}.")


@app.command(
    epilog="Example: paretoformer diff results/first/baseline/fair model/ --task movie-reviews --max-negative-flips 3%"
)
def diff(
    base: Annotated[Path, typer.Argument(help="The model in use: an export, a baseline, a checkpoint or a cascade.")],
    model: Annotated[Path, typer.Argument(help="The one that shall replace it.")],
    task: Annotated[str | None, typer.Option(help="A name from `list tasks`, or a file.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="All rows of a CSV, JSONL, Parquet or .txt file, labelled or not.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="test, confirm or search; test by default, or all rows of a file that no model was made with."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the splits; as the models' run drew them by default.")] = None,
    rows: Annotated[int | None, typer.Option(help="Compare on the first so many rows.", min=1)] = None,
    slice: Annotated[
        str | None,
        typer.Option(help="Column of the file to make slices by; classes, length and confidence by default."),
    ] = None,
    max_drop: Annotated[
        str | None, typer.Option(help="Exit with 3 beyond it: 1pt (a point), or 1% (relative).")
    ] = None,
    max_negative_flips: Annotated[
        str | None, typer.Option(help="Likewise for rows that only the base has right: 1%.")
    ] = None,
    max_disagreement: Annotated[str | None, typer.Option(help="Likewise for rows answered differently: 1%.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all flipped rows to this .csv or .jsonl file.")] = None,
    format: Format = "table",
) -> None:
    """Which answers change from one model to another: flipped rows, worst slices, and a gate for releases."""
    from search import serving
    from search.differences import Limits

    if split is not None:
        _one_of("--split", split, ("test", "confirm", "search"))
    printed, missed = serving.diff(
        base,
        model,
        serving.Rows(task, data, split, seed, rows, slice),
        Limits(max_drop, max_negative_flips, max_disagreement),
        format=_one_of("--format", format, ("table", "json", "csv")),
        out=out,
    )
    typer.echo(printed)
    if missed:
        raise InfeasibleError(f"{model} changes too much: {'; '.join(missed)}.")


@app.command(epilog="Example: paretoformer finetune --model minilm --task reviews.csv --out checkpoint/")
def finetune(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    model: Annotated[str | None, typer.Option(help="Folder, Hub id, or a name from `list models`.")] = None,
    task: Annotated[str | None, typer.Option(help="A name from `list tasks`, or a file.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="A run: its task, train rows and training and, unless --model is given, its model."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the train split; by default 3, or as many as make 120 steps, 800 with several labels or "
            "labelled words.",
            min=1,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the splits and the order.")] = 0,
    split_seed: Annotated[
        int | None, typer.Option(help="Draws the splits alone: that of the run that the checkpoint is for.")
    ] = None,
) -> None:
    """Fine-tune a model on a task's train split."""
    from search import run
    from search.config import RunConfig
    from search.so_far import read_config

    if like is not None:
        if task is not None or split_seed is not None:
            raise ConfigError("--like takes the task and its splits from the run. Leave --task and --split-seed out.")
        config = read_config(like)
        split_seed = config.search.seed
    elif model is None or task is None:
        raise ConfigError("finetune needs --model and --task, or --like with the folder of a run.")
    else:
        config = RunConfig.parse({"model": model, "task": task})
    training = config.finetune.model_copy(update={"epochs": epochs or config.finetune.epochs})
    config = config.model_copy(update={"model": model or config.model, "finetune": training})
    run.finetune(config, out, seed=seed, split_seed=split_seed)


@recipes.command(
    epilog="Example: paretoformer recipe fastformers --model minilm --task movie-reviews --out results/ladder"
)
def fastformers(
    model: Annotated[str, typer.Option(help="Folder, Hub id, or a name from `list models`.")],
    task: Annotated[str, typer.Option(help="A name from `list tasks`, or a file.")],
    out: Annotated[Path, typer.Option(help="Folder for the steps' models and the table; the same one goes on.")],
    epochs: Annotated[int, typer.Option(help="Of each of the three distillations, at most.", min=1)] = 10,
    learning_rate: Annotated[float, typer.Option(help="Of the distillations, for steps of 32 rows.")] = 1e-4,
    layers: Annotated[int | None, typer.Option(help="Of the student; half of the model's by default.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Draws the splits and the order of everything.")] = 0,
    price_per_hour: Annotated[float, typer.Option(help="Dollars that this machine costs per hour.")] = 0.2,
) -> None:
    """The published ladder as a table, every step measured: padded, dynamic, distilled, int8, instances, pruned twice.

    Published constants (arXiv 2010.13382) are defaults, but for the student, which here is the first layers of the
    model itself, and for the learning rate, which was 1e-5 for steps of 4 rows.
    """
    from evaluators.ladder.steps import Settings
    from search import run
    from search.config import RunConfig
    from search.fastformers import markdown

    config = RunConfig.parse({"model": model, "task": task, "search": {"seed": seed}})
    settings = Settings(layers=layers, epochs=epochs, learning_rate=learning_rate)
    try:
        typer.echo(markdown(run.fastformers(config, out, settings, price_per_hour)))
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. Finished steps are in {out}; the same command goes on.", err=True)
        raise typer.Exit(130) from None


@caches.command("info", epilog="Example: paretoformer cache info")
def cache_info() -> None:
    """Where it is, and how much of what there is."""
    from search import serving

    typer.echo(serving.cache_info())


@caches.command("clear", epilog="Example: paretoformer cache clear --everything")
def cache_clear(
    everything: Annotated[
        bool, typer.Option("--everything", help="Fine-tuned checkpoints and downloads too, not figures alone.")
    ] = False,
) -> None:
    """Forget scores and latencies; runs keep theirs."""
    from search import serving

    typer.echo(serving.cache_clear(everything=everything))


@app.command(epilog="Example: paretoformer report results/first")
def report(run_folder: Run) -> None:
    """Rebuild report.html and front.png."""
    from search.report import write_report

    for path in write_report(run_folder):
        typer.echo(path)


@app.command("list", epilog="Example: paretoformer list samplers")
def list_names(what: Annotated[str, typer.Argument(help="tasks, models, samplers, runtimes or knobs.")]) -> None:
    """The names that flags and configuration files take."""
    from search import names

    for name, meaning in names.listing(what).items():
        typer.echo(f"{name:16} {meaning}")


def _of_recipe(goal: str | None, literal: bool, refit: bool) -> dict[str, Any]:
    """Flags of the published recipes."""
    return {
        "significance.goal": goal,
        "axformer.literal": literal or None,
        "axformer.refit": refit or None,
    }


def _latency_limits(section: str, asked: list[str] | None) -> dict[str, str]:
    """`5ms` is for the first target, `LABEL=5ms` for a further one."""
    limits = {}
    for text in asked or ():
        label, given, limit = text.rpartition("=")
        limits[f"{section}latency@{label}" if given else f"{section}latency"] = limit
    return limits


def _command() -> str:
    """What the user called."""
    return shlex.join(["paretoformer", *sys.argv[1:]])


def _targets(files: list[Path] | None) -> list[str] | None:
    return None if not files else [str(file) for file in files]


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{flag} {value!r} is not known. Choose from {', '.join(known)}.")
    return value


def _instances(asked: str | None) -> int | Literal["auto"] | None:
    if asked is None:
        return None
    if asked == "auto":
        return "auto"
    if not asked.isdecimal() or int(asked) < 1:
        raise ConfigError(
            f"--instances {asked!r}: expected a number from 1, or auto, which is one per --threads cores."
        )
    return int(asked)


def _interruptible(folder: Path, work: Callable[[], Any], *, goes_on: bool = True) -> Any:
    try:
        return work()
    except KeyboardInterrupt:
        saved = f"Everything finished is saved; go on with: paretoformer resume {folder}"
        typer.echo(f"Interrupted. {saved if goes_on else 'Begin again, with another --out.'}", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        from search.so_far import CONFIG

        cure = "Mend that, or name another folder with --out."
        if goes_on and (folder / CONFIG).exists():
            cure = f"Everything finished is saved; mend that and go on with: paretoformer resume {folder}"
        raise RunError(f"{error.filename or folder} cannot be written: {error.strerror}. {cure}") from error


def _show_outcome(folder: Path, code: int) -> None:
    from search import present

    typer.echo(present.outcome(folder))
    if code:  # nothing meets the limits: asking for a pick says which limit is missed by how much
        present.select(folder, present.Asked({}, None, None, keep=True), None, "table")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command; errors are one line on standard error."""
    from search.guard import check_overwritten

    signal.signal(signal.SIGTERM, _interrupt)  # what schedulers send before they kill
    try:
        check_overwritten()
        code = app(standalone_mode=False)
    except ParetoformerError as error:
        prefix = "Error: " if isinstance(error, CallerError) else ""
        print(f"{prefix}{error}", file=sys.stderr)
        code = error.exit_code
    except typer.TyperException as error:
        print(f"Error: {error} See paretoformer --help.", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        code = 0
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
