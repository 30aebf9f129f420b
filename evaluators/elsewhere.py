"""A run's exported models on a machine that did not search them. Knows folders and rows; needs no original model."""

from collections.abc import Mapping
from pathlib import Path

from evaluators import artifact
from evaluators.base import Remeasured, Watch
from evaluators.exported import accuracy_against, answers_of, side_by_side, timings
from evaluators.problems.base import agreement
from evaluators.tasks.base import Splits, Task
from evaluators.transformer import as_scored, unpacked
from spaces.target import Target


def remeasure(
    folders: Mapping[str, Path],
    baselines: Mapping[str, Path],
    predictions: Path,
    task: Task,
    texts: Splits,
    target: Target,
    *,
    inputs: int,
    rounds: int,
    processes: int,
    seed: int,
    watch: Watch,
) -> dict[str, Remeasured]:
    """What exported members and baselines take and answer on this machine.

    Args:
        folders: of members, by key.
        baselines: likewise by name, `fair` among them.
        predictions: folder of what search scored, KEY.npz each.
        task: names the metric.
        texts: the run's rows.
        target: threads, batch and lengths, on this machine.
        inputs: how many real inputs latency is averaged over.
        rounds: of timing in all.
        processes: fresh ones that they are spread over.
        seed: of the run; draws the timed inputs as it did there.
        watch: told how far each stage is.
    """
    everything = {**baselines, **folders}
    fair = artifact.Artifact.open(baselines["fair"], threads=target.threads)
    metric = task.metric
    logits = {}
    for done, (name, folder) in enumerate(everything.items()):
        watch("answers", done, len(everything))
        logits[name] = answers_of(folder, texts.confirm, target, fair.max_length)
    rows = fair.encode(texts.confirm)
    same = {}
    for done, (key, folder) in enumerate(folders.items()):
        watch("agreement", done, len(folders))
        scored = predictions / f"{key}.npz"
        if scored.exists():
            there = unpacked(scored)["search"]
            answered = answers_of(folder, texts.search.first(len(there)), target, fair.max_length)
            same[key] = agreement(metric.problem, as_scored(answered), there)
    counts = {"inputs": inputs, "rounds": rounds, "processes": processes}
    measured = side_by_side(everything, fair, texts.search, target, **counts, seed=seed, watch=watch)
    found = timings(measured, baselines, seed)
    return {
        name: Remeasured(
            found[name], accuracy_against(logits["fair"], logits[name], rows, metric, task.classes), same.get(name)
        )
        for name in everything
    }
