"""Cascades of verified members: planned from kept logits, built, scored and timed. Knows contracts; knows no models."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluators.base import Baseline, Judgement, StageTimings, Timing, VerifyCascade, Watch
from search.cascade_front import cascade_front
from search.cascades import Candidate, Plan, cascade_figures, choose
from search.figures import LatencyFigure, MemberFigures
from search.members import AGREEMENT, Exported, accuracy_figure, latency_figure, size_figure
from search.situation import Situation
from spaces.objectives import Complete

LINEAR = "linear"


@dataclass(frozen=True)
class Verified:
    """What cascades may be made of.

    Args:
        members: sound ones, with logits on calibration, search and confirm.
        timings: of members and baselines.
        baselines: by name; `linear` may be a first stage.
    """

    members: Sequence[Exported]
    timings: Mapping[str, Timing]
    baselines: Mapping[str, Baseline]

    def folder(self, key: str) -> Path:
        """Where a stage was exported to."""
        if key in self.baselines:
            return self.baselines[key].folder
        return next(each.folder for each in self.members if each.trial.key == key)

    def predictions(self, key: str) -> bytes:
        """A stage's logits on confirm, among others."""
        if key in self.baselines:
            return self.baselines[key].predictions
        return next(each.predictions for each in self.members if each.trial.key == key)


def verify_cascades(situation: Situation, known: Verified, fair_bytes: int, watch: Watch) -> list[MemberFigures]:
    """The most promising cascades, really built and measured.

    Args:
        situation: with what, under which limits, and how many.
        known: members and baselines.
        fair_bytes: size of the baseline `fair`.
        watch: told how far each stage is.
    """
    if not situation.cascades or not known.members:
        return []
    watch("cascades", 0, 0)
    assessor = situation.assessor
    judged = {LINEAR: assessor.judged_baseline(LINEAR)} if LINEAR in known.baselines else {}
    judged |= {each.trial.key: assessor.judged(each.predictions) for each in known.members}
    if len(judged) < 2:
        return []
    timed = assessor.time_stages({key: known.folder(key) for key in judged}, watch)
    candidates = [_candidate(situation, known, key, judgement, timed) for key, judgement in judged.items()]
    fair = assessor.judged_baseline("fair").right
    found = cascade_front(candidates, assessor.timed_rows, batch_size=situation.first.batch_size)
    both = np.concatenate([fair["calibration"], fair["search"]])
    levels = float(both.mean()), float(fair["search"].mean())
    plans = choose(found, levels, situation.bounds, situation.cascades)
    folders = {plan.key: situation.folder / "models" / plan.key for plan in plans}
    for plan in plans:
        stages = list(zip(plan.temperatures, (*plan.thresholds, None), strict=True))
        assessor.build_cascade(folders[plan.key], [known.folder(key) for key in plan.keys], stages)
    answers = _answers(situation, folders, watch)
    timings = assessor.time(folders, watch) if folders else {}
    return [
        _figures(situation, known, plan, answers[plan.key], timings, fair_bytes)
        for plan in plans
        if plan.key in answers
    ]


def _candidate(situation: Situation, known: Verified, key: str, judgement: Judgement, timed: StageTimings) -> Candidate:
    size, _ = situation.assessor.sizes(known.folder(key))
    alone_ms, drift = np.asarray(known.timings[key].per_call_ms), _drift(known.timings, timed.fair)
    return Candidate(
        key,
        judgement.temperature,
        judgement.confidence,
        judgement.right,
        latency_ms=alone_ms,
        first_ms=alone_ms + timed.asking_ms * drift,
        later_ms=np.asarray(timed.later[key].per_call_ms) * drift,
        size=size,
        first_only=key == LINEAR,
    )


def _answers(situation: Situation, folders: Mapping[str, Path], watch: Watch) -> dict[str, bytes]:
    """Logits of each cascade as it was loaded again; one that cannot be is left out."""
    waiting = [VerifyCascade(key, folder.resolve()) for key, folder in folders.items()]
    names, done = {job.key: job.name for job in waiting}, dict[str, bytes]()
    total, running = len(waiting), 0
    with closing(situation.pool()) as runner:
        while waiting or running:
            while waiting and running < runner.slots:
                runner.submit(waiting.pop(0))
                running += 1
            evaluation = runner.next_done()
            assert evaluation is not None, "something is waited for"
            running -= 1
            if isinstance(evaluation.outcome, Complete) and evaluation.predictions is not None:
                done[names[evaluation.key]] = evaluation.predictions
            watch("cascades", total - len(waiting) - running, total)
    return done


def _figures(
    situation: Situation,
    known: Verified,
    plan: Plan,
    answers: bytes,
    timings: Mapping[str, Timing],
    fair_bytes: int,
) -> MemberFigures:
    assessor = situation.assessor
    stages = [
        (known.predictions(key), temperature, threshold)
        for key, temperature, threshold in zip(plan.keys, plan.temperatures, (*plan.thresholds, None), strict=True)
    ]
    agreement = assessor.cascade_agreement("confirm", stages, answers)
    confirm = assessor.accuracy("confirm", answers)
    folder = situation.folder / "models" / plan.key
    note = None
    if confirm.collapsed:
        note = "collapsed: it answers every row alike"
    elif agreement < AGREEMENT:
        note = f"demoted: the exported cascade agrees with its members' answers on {agreement:.2%} of rows only"
    return cascade_figures(
        plan,
        accuracy={
            "search": accuracy_figure(assessor.accuracy("search", answers)),
            "confirm": accuracy_figure(confirm),
        },
        latency=_corrected(timings[plan.key], _drift(known.timings, timings["fair"])),
        size=size_figure(assessor, folder, fair_bytes),
        agreement=agreement,
        artifact=str(folder.relative_to(situation.folder)),
        note=note,
    )


def _drift(members: Mapping[str, Timing], fair: Timing) -> float:
    """What brings milliseconds of a later measurement to those of the members', given `fair` in the later one."""
    return members["fair"].mean_ms / fair.mean_ms


def _corrected(timing: Timing, drift: float) -> LatencyFigure:
    """Milliseconds as they would have been beside the members: cascades were timed later, next to `fair` again."""
    figure = latency_figure(timing)
    assert figure.p50_ms is not None
    assert figure.p95_ms is not None
    return LatencyFigure(
        figure.mean_ms * drift,
        figure.p50_ms * drift,
        figure.p95_ms * drift,
        figure.rounds,
        figure.processes,
        speedup=figure.speedup,
        bands=tuple(replace(band, mean_ms=band.mean_ms * drift) for band in figure.bands),
    )
