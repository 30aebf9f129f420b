"""Which members deserve distillation, and their way through it. Knows figures, jobs and records; knows no training.

Distilling takes minutes where scoring takes a second, so it is spent where it promises most: candidates are ranked by
the hypervolume that their predicted figures would add to the front, per predicted minute. Cheap rungs correct the
predictions: many are refitted without any training, some are trained shortly, few to the end. What was trained is then
scored in every combination of the other families' rungs, which is cheap.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluators.base import Job, Score, Train, Watch
from search.front import front_hypervolume
from search.ledger import Trial
from search.record import Record
from search.runners.base import Runner
from spaces.design import Design, Member
from spaces.knobs import IntRange, Scalar
from spaces.objectives import Complete, Evaluation
from spaces.space import Space, saves

STUDY = RECIPE = "recovered"
# Share of the accuracy drop that training is expected to leave of a member of the search.
_LEFT_OF_UNTRAINED = 0.3
# Share of an epoch's cost that does not shrink with the student.
_FIXED_COST = 0.3
# Share of a limit on accuracy that the safest of the members within it leave unused.
_MOST_UNUSED = 0.7
# Below this drop there is nothing to recover that measuring could show.
_NOTHING_LOST = 0.002
# Shares of a model's cost that recovery tries to do without.
_STEEP_CUTS = (0.4, 0.55, 0.7)
# Times the least expected drop that counts as the least.
_ABOUT = 1.25


@dataclass(frozen=True)
class Plan:
    """What recovery may spend.

    Args:
        members: how many are trained to the end.
        epochs: of that training.
        rows: of the search split per evaluation; None: all.
        family: the config that training is for; the other families vary freely afterwards.
        fair: figures of `fair`: `accuracy`, `latency` and `size`.
        objectives: names of what the front is over.
        most_lost: accuracy that a member may lose at most, as a fraction; None: no limit.
    """

    members: int
    epochs: int
    rows: int | None
    family: str
    fair: Mapping[str, float]
    objectives: tuple[str, ...]
    most_lost: float | None = None


@dataclass(frozen=True)
class Rung:
    """A step of training that some candidates take.

    Args:
        stage: what people are told.
        epochs: 0 refits only.
        wider: candidates for each one that is trained to the end.
        left: share of the drop it leaves that the rungs behind it are expected to leave.
    """

    stage: str
    epochs: int
    wider: int
    left: float


def rungs(plan: Plan) -> tuple[Rung, ...]:
    """Cheap to dear; a short training is left out where the long one is no longer."""
    short = Rung("recover: short training", 1, 2, 0.7)
    return (
        Rung("recover: refit", 0, 6, 0.3),
        *([short] if plan.epochs > short.epochs else []),
        Rung("recover: training", plan.epochs, 1, 1.0),
    )


def steep(space: Space, milliseconds: Callable[[Member], float]) -> list[Member]:
    """Members that only training makes useful: shallow and narrow at once, where search goes one step at a time; in the
    smallest and in the fastest widths, no model twice.

    Args:
        space: whose first axis prunes; there are none where it does so unit by unit.
        milliseconds: predicted latency.
    """
    neutral = space.identity()
    depth, cut = space.knobs.get("prune.depth"), space.knobs.get("prune.cut")
    if not isinstance(depth, IntRange) or cut is None:
        return []
    small, fast = dict[str, Scalar](), dict[str, Scalar]()
    for axis in filter(saves, space.axes[1:]):
        small |= axis.ladder()[-1]
        # Of equally fast rungs the smallest, which is the last.
        fast |= min(reversed(axis.ladder()), key=lambda rung: milliseconds(space.decode(Design({**neutral, **rung}))))
    cuts: list[dict[str, Scalar]] = [
        {"prune.depth": layers, "prune.cut": share}
        for layers in range(max(2, depth.high // 3), depth.high + 1)
        for share in _STEEP_CUTS
    ]
    members = [space.decode(Design({**neutral, **narrow, **step})) for narrow in (small, fast) for step in cuts]
    return list({member.key: member for member in members}.values())


@dataclass(frozen=True)
class Candidate:
    """A member that could be trained.

    Args:
        member: what it is now.
        source: key of the search's member that it came from.
        expected: drop of accuracy once trained, as a fraction.
        latency: in ms.
        size: in bytes.
    """

    member: Member
    source: str
    expected: float
    latency: float
    size: float

    def figures(self, fair: Mapping[str, float]) -> dict[str, float]:
        """What is expected of it once trained."""
        return {"accuracy": fair["accuracy"] - self.expected, "latency": self.latency, "size": self.size}

    def effort(self, fair: Mapping[str, float]) -> float:
        """What an epoch costs, as a share of the original's."""
        return _FIXED_COST + (1 - _FIXED_COST) * self.latency / fair["latency"]


def deserving(pool: Sequence[Candidate], known: Sequence[Trial], count: int, plan: Plan) -> list[Candidate]:
    """At most `count` candidates, one per config of the plan's family: the largest expected gain per effort each time.

    Where there is a limit on accuracy, half of the places go to those that are expected to keep to it, or else to come
    nearest, by what they gain in the other objectives: from those that use all of the limit to those that leave most of
    it unused, because expectations err. The others may go beyond: as first stages of cascades they need not keep to it.

    Args:
        pool: candidates.
        known: trials that make up the front so far.
        count: how many.
        plan: objectives and the figures of `fair`.
    """
    rows = [
        {"accuracy": plan.fair["accuracy"] - _drop(trial), **dict(zip(("latency", "size"), _costs(trial), strict=True))}
        for trial in known
    ]
    left, chosen = list(pool), list[Candidate]()

    def choose(places: int, candidates: list[Candidate], rows: list[dict[str, float]], axes: Sequence[str]) -> None:
        while candidates and len(chosen) < places:
            before = front_hypervolume(rows, plan.fair, axes)
            worth = [
                (front_hypervolume([*rows, each.figures(plan.fair)], plan.fair, axes) - before) / each.effort(plan.fair)
                for each in candidates
            ]
            best = max(range(len(candidates)), key=worth.__getitem__)
            if worth[best] <= 0:
                return
            chosen.append(candidates[best])
            rows.append(candidates[best].figures(plan.fair))
            candidates = _others(candidates, chosen, plan)

    costs = [name for name in plan.objectives if name != "accuracy"]
    if plan.most_lost is not None and costs:
        worst = plan.fair["accuracy"] - plan.most_lost
        places, known_within = -(-count // 2), [row for row in rows if row["accuracy"] >= worst]
        for place in range(places):
            used = 1 - _MOST_UNUSED * place / max(1, places - 1)
            others = _others(left, chosen, plan)
            within = [each for each in others if each.expected <= used * plan.most_lost]
            choose(place + 1, within or _nearest(others), known_within, costs)
    choose(count, _others(left, chosen, plan), rows + [each.figures(plan.fair) for each in chosen], plan.objectives)
    return chosen


def _nearest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Where none is expected to keep to a limit, those that are expected to lose least: training may do better."""
    least = min((each.expected for each in candidates), default=0.0)
    return [each for each in candidates if each.expected <= _ABOUT * least]


def _others(candidates: Sequence[Candidate], chosen: Sequence[Candidate], plan: Plan) -> list[Candidate]:
    """Candidates of another structure than any that was chosen."""
    taken = [_family(each.member, plan) for each in chosen]
    return [each for each in candidates if _family(each.member, plan) not in taken]


class Recovery:
    """Trains what deserves it, and records what comes out.

    Args:
        space: knows the rungs of the other families.
        record: of the search; candidates come from there.
        recovered: the record that recovered members are written to.
        runner: trains and scores.
        plan: what may be spent.
        watch: told how far each stage is.
    """

    def __init__(
        self, space: Space, record: Record, recovered: Record, runner: Runner, plan: Plan, watch: Watch
    ) -> None:
        self._space = space
        self._record = record
        self._recovered = recovered
        self._runner = runner
        self._plan = plan
        self._watch = watch

    def run(self, further: Sequence[Member] = ()) -> list[Member]:
        """Choose, train shortly, choose again, train to the end, and score in all widths.

        Args:
            further: members beyond those that search tried, which are scored first.

        Returns:
            The members that were trained to the end.
        """
        self._done([_Task(member) for member in further], "recover: candidates")
        known = [trial for trial in self._trials() if trial.weights == "finetuned"]
        pool = [
            Candidate(self._member(trial), trial.key, _LEFT_OF_UNTRAINED * _drop(trial), *_costs(trial))
            for trial in known
            if _drop(trial) > _NOTHING_LOST
        ]
        plan = self._plan
        for rung in rungs(plan):
            pool = self._trained(deserving(pool, known, plan.members * rung.wider, plan), rung)
            keys = {each.member.key for each in pool}
            known += [trial for trial in self._trials() if trial.key in keys]
        wider = {each: [each.member, *self._space.beside(each.member, plan.family)] for each in pool}
        tasks = [_Task(other, (each.source,)) for each, others in wider.items() for other in others]
        self._between(wider, self._done(tasks, "recover: widths"))
        return [each.member for each in pool]

    def _between(self, wider: Mapping[Candidate, Sequence[Member]], trials: Mapping[str, Trial]) -> None:
        """Steps between two rungs: of each structure's smallest member with all parts wide, more and more parts a grade
        lower, those first that cost least quality per byte."""
        starts = {each: start for each, others in wider.items() if (start := self._start(others, trials)) is not None}
        alone = [(each, start, part) for each, start in starts.items() for part in self._space.parts(start)]
        tasks = [_Task(self._space.narrow(start, [part]), (each.source,)) for each, start, part in alone]
        scored = self._done(tasks, "recover: parts")
        further = list[_Task]()
        for each, start in starts.items():
            price = {
                part: _price(scored[start.key], trial)
                for part in self._space.parts(start)
                if (trial := scored.get(self._space.narrow(start, [part]).key)) is not None
            }
            cheapest = sorted(price, key=price.__getitem__)
            steps = (cheapest[:count] for count in range(2, len(cheapest)))
            further += [_Task(self._space.narrow(start, parts), (each.source,)) for parts in steps]
        self._done(further, "recover: steps")

    def _start(self, others: Sequence[Member], trials: Mapping[str, Trial]) -> Member | None:
        """The smallest of the members with the most parts that could be a grade lower."""
        known = [other for other in others if other.key in trials and self._space.parts(other)]
        most = max((len(self._space.parts(other)) for other in known), default=0)
        lowest = [other for other in known if len(self._space.parts(other)) == most]
        return min(lowest, key=lambda other: _costs(trials[other.key])[1], default=None)

    def _trained(self, candidates: Sequence[Candidate], rung: Rung) -> list[Candidate]:
        """Those whose training succeeded, with their new weights and what is expected of more training."""
        tasks = []
        for each in candidates:
            training = Train(each.member, rung.epochs)
            tasks.append(_Task(replace(each.member, weights=training.weights), (each.source,), training))
        trials = self._done(tasks, rung.stage)
        return [
            Candidate(task.member, each.source, rung.left * _drop(trial), *_costs(trial))
            for task, each in zip(tasks, candidates, strict=True)
            if (trial := trials.get(task.member.key)) is not None
        ]

    def _done(self, tasks: Sequence["_Task"], stage: str) -> dict[str, Trial]:
        """Complete trials of the tasks by member key; what is known already is not done again."""
        known = {trial.key: trial for trial in self._trials()}
        waiting = list({task.member.key: task for task in tasks if task.member.key not in known}.values())
        numbers = {trial.key: trial.number for trial in self._recovered.interrupted()}
        running: dict[str, tuple[_Task, Job]] = {}
        trained: dict[str, Mapping[str, float]] = {}
        ended, total = 0, len(waiting)
        if waiting:
            self._watch(stage, 0, total)
        while waiting or running:
            while waiting and len(running) < self._runner.slots:
                task = waiting.pop(0)
                key = task.member.key
                numbers[key] = self._recovered.start(
                    None, task.member, RECIPE, number=numbers.get(key), parents=task.parents
                )
                self._submit(task, task.training or self._score(task), running)
            evaluation = self._runner.next_done()
            assert evaluation is not None, "something is waited for"
            task, job = running.pop(evaluation.key)
            if isinstance(job, Train) and isinstance(evaluation.outcome, Complete):
                trained[task.member.key] = evaluation.outcome.extras
                self._submit(task, self._score(task), running)
                continue
            evaluation = _with_extras(evaluation, trained.get(task.member.key, {}))
            self._recovered.finish(numbers[task.member.key], replace(evaluation, key=task.member.key))
            ended += 1
            self._watch(stage, ended, total)
        return {trial.key: trial for trial in self._trials()}

    def _submit(self, task: "_Task", job: Job, running: dict[str, tuple["_Task", Job]]) -> None:
        running[job.key] = task, job
        self._runner.submit(job)

    def _score(self, task: "_Task") -> Score:
        return Score(task.member, self._plan.rows)

    def _trials(self) -> list[Trial]:
        """Complete trials of search and recovery, once each."""
        both = {trial.key: trial for record in (self._record, self._recovered) for trial in record.trials()}
        return [trial for trial in both.values() if trial.state == "complete"]

    def _member(self, trial: Trial) -> Member:
        return self._space.member(trial.decoded, trial.weights)


@dataclass(frozen=True)
class _Task:
    """A member to score, after `training` if there is one."""

    member: Member
    parents: tuple[str, ...] = ()
    training: Train | None = None


def _with_extras(evaluation: Evaluation, figures: Mapping[str, float]) -> Evaluation:
    outcome = evaluation.outcome
    if not isinstance(outcome, Complete):
        return evaluation
    return replace(evaluation, outcome=replace(outcome, extras={**outcome.extras, **figures}))


def _drop(trial: Trial) -> float:
    assert trial.drop is not None, "recovery is of labelled rows"
    return trial.drop


def _costs(trial: Trial) -> tuple[float, float]:
    """Latency in ms and size in bytes, whether they are objectives or not."""
    return trial.figures["latency"], trial.figures["size"]


def _price(start: Trial, lower: Trial) -> float:
    """Quality that a lower grade costs per byte that it saves."""
    quality = [trial.figures.get("kl", _drop(trial)) for trial in (start, lower)]
    return (quality[1] - quality[0]) / max(1.0, _costs(start)[1] - _costs(lower)[1])


def _family(member: Member, plan: Plan) -> object:
    return next(config for config in member.configs if config.family == plan.family)
