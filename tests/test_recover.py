"""What is distilled, in which order, and what the record says of it."""

import random
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from evaluators.base import Job, Score, Train
from evaluators.synthetic import BYTES, MILLISECONDS, ORIGINAL_ACCURACY, SyntheticEvaluator, synthetic_space
from search.record import Record
from search.recover import STUDY, Candidate, Plan, Recovery, deserving, steep
from search.runners.inline import InlineRunner
from spaces.axes.pruning import Importance, Pruning, PruningAxis, UnitCosts
from spaces.axes.quantization import Quantization, QuantizationAxis, forget_absent_parts
from spaces.design import Design, Member
from spaces.objectives import KL, LATENCY, SIZE, Complete, Evaluation, Failed
from spaces.shape import ModelShape
from spaces.space import Space

SPACE = synthetic_space(4)
PLAN = Plan(
    members=2,
    epochs=3,
    rows=64,
    family="synthetic",
    fair={"accuracy": ORIGINAL_ACCURACY, "latency": MILLISECONDS, "size": BYTES},
    objectives=("accuracy", "latency", "size"),
)


@dataclass
class Distilling:
    """The synthetic problem, in which training takes away half of the drop, and more with more epochs."""

    trained: list[Train] = field(default_factory=list)
    fails: bool = False

    def evaluate(self, job: Job) -> Evaluation:
        if isinstance(job, Train):
            self.trained.append(job)
            outcome = Failed("OutOfMemory", "too large") if self.fails else Complete({}, {"epochs": float(job.epochs)})
            return Evaluation(job.key, outcome)
        assert isinstance(job, Score)
        evaluation = SyntheticEvaluator().evaluate(job)
        assert isinstance(evaluation.outcome, Complete)
        epochs = {each.weights: each.epochs for each in self.trained}.get(job.member.weights, 0)
        drop = evaluation.outcome.extras["accuracy_drop"] / (1 + epochs)
        extras = {"accuracy": ORIGINAL_ACCURACY - drop, "accuracy_drop": drop}
        return replace(evaluation, outcome=replace(evaluation.outcome, extras=extras))


@pytest.fixture
def searched(tmp_path: Path) -> Record:
    """Sixty random designs in a record."""
    record = Record.create(tmp_path, objectives=(KL, LATENCY, SIZE), bounds=())
    rng = random.Random(0)
    for _ in range(60):
        ends = {f"x.{knob}": rng.randint(2, 18) / 20 for knob in range(2)}  # at 0 and 1 a cost would vanish
        design = Design({**SPACE.sample(rng), **ends})
        member = SPACE.decode(design)
        record.finish(record.start(design, member), SyntheticEvaluator().evaluate(Score(member)))
    return record


def recovered(record: Record, folder: Path, evaluator: Distilling, plan: Plan = PLAN) -> tuple[Recovery, Record]:
    kept = Record.exists(folder, study=STUDY)
    further = (
        Record.open(folder, study=STUDY)
        if kept
        else Record.create(folder, objectives=record.objectives, bounds=(), study=STUDY)
    )
    return Recovery(SPACE, record, further, InlineRunner(lambda: evaluator), plan, lambda *_: None), further


def test_cheap_rungs_come_before_dear_ones(searched: Record, tmp_path: Path) -> None:
    evaluator = Distilling()
    recovery, _ = recovered(searched, tmp_path, evaluator)
    members = recovery.run()
    by_rung = [[job for job in evaluator.trained if job.epochs == epochs] for epochs in (0, 1, 3)]
    assert evaluator.trained == [job for rung in by_rung for job in rung]
    assert [len(rung) for rung in by_rung] == [12, 4, 2]
    for earlier, later in pairwise(by_rung):
        assert {job.member.weights for job in later} <= {job.weights for job in earlier}
    assert [member.weights for member in members] == [job.weights for job in by_rung[-1]]


def test_members_come_into_the_record_with_their_parents(searched: Record, tmp_path: Path) -> None:
    recovery, _ = recovered(searched, tmp_path, Distilling())
    members = recovery.run()
    everything = {trial.key: trial for trial in Record.open(tmp_path).trials()}
    for member in members:
        trial = everything[member.key]
        assert trial.recipe == "recovered"
        assert trial.study == STUDY
        (parent,) = trial.parents
        assert everything[parent].decoded == trial.decoded
        assert trial.extras["accuracy_drop"] < everything[parent].extras["accuracy_drop"]
        assert trial.extras["epochs"] == 3


def test_recovered_members_are_not_designs_of_the_search(searched: Record, tmp_path: Path) -> None:
    recovery, _ = recovered(searched, tmp_path, Distilling())
    recovery.run()
    assert len(Record.open(tmp_path).finished()) == 60


def test_nothing_is_trained_twice(searched: Record, tmp_path: Path) -> None:
    recovered(searched, tmp_path, Distilling())[0].run()
    again = Distilling()
    first = recovered(searched, tmp_path, again)[0].run()
    assert not again.trained
    assert len(first) == 2


def test_an_interrupted_training_goes_on_under_its_number(searched: Record, tmp_path: Path) -> None:
    class Interrupted(Distilling):
        def evaluate(self, job: Job) -> Evaluation:
            if isinstance(job, Train) and len(self.trained) == 14:
                raise KeyboardInterrupt
            return super().evaluate(job)

    with pytest.raises(KeyboardInterrupt):
        recovered(searched, tmp_path, Interrupted())[0].run()
    rest = Distilling()
    recovery, further = recovered(searched, tmp_path, rest)
    recovery.run()
    assert len([job for job in rest.trained if job.epochs == 1]) == 2
    assert not further.interrupted()


def test_training_that_fails_is_a_failed_trial_and_no_more(searched: Record, tmp_path: Path) -> None:
    recovery, further = recovered(searched, tmp_path, Distilling(fails=True))
    assert recovery.run() == []
    failed = [trial for trial in further.trials() if trial.state == "failed"]
    assert {trial.error for trial in failed} == {"OutOfMemory: too large"}
    assert len(failed) == 12


def candidate(x: float, expected: float, latency: float, size: float) -> Candidate:
    design = Design({**SPACE.identity(), "x.0": x})
    return Candidate(SPACE.decode(design), f"source-{x}", expected, latency, size)


def test_the_largest_gain_per_effort_comes_first() -> None:
    slow_and_good = candidate(0.1, 0.0, 8.0, BYTES / 2)
    fast_and_good = candidate(0.2, 0.0, 2.0, BYTES / 2)
    hopeless = candidate(0.3, 0.2, 1.0, BYTES / 4)
    assert deserving([slow_and_good, fast_and_good, hopeless], [], 2, PLAN)[0] == fast_and_good
    assert hopeless not in deserving([slow_and_good, fast_and_good, hopeless], [], 3, PLAN)


def test_one_structure_is_trained_once() -> None:
    twice = [candidate(0.2, 0.0, 2.0, BYTES / 2), candidate(0.2, 0.0, 2.5, BYTES / 3)]
    assert len(deserving(twice, [], 2, PLAN)) == 1


def test_half_of_the_places_are_for_those_within_a_limit_on_accuracy() -> None:
    sound, bold = candidate(0.1, 0.005, 6.0, BYTES / 2), candidate(0.2, 0.015, 1.0, BYTES / 8)
    assert deserving([sound, bold], [], 1, PLAN) == [bold]
    assert deserving([sound, bold], [], 1, replace(PLAN, most_lost=0.01)) == [sound]
    assert deserving([sound, bold], [], 2, replace(PLAN, most_lost=0.01)) == [sound, bold]


def test_where_none_is_expected_within_the_limit_one_place_is_for_those_that_come_nearest() -> None:
    near, nearer_and_slow = candidate(0.1, 0.0115, 4.0, BYTES / 4), candidate(0.15, 0.01, 6.0, BYTES / 2)
    bold = candidate(0.2, 0.03, 1.0, BYTES / 8)
    limited = replace(PLAN, most_lost=0.005)
    assert deserving([near, nearer_and_slow, bold], [], 1, limited) == [near]
    assert deserving([near, nearer_and_slow, bold], [], 2, limited) == [near, bold]


def test_of_two_within_the_limit_one_leaves_most_of_it_unused() -> None:
    bold, bolder, safe = (
        candidate(0.1, 0.009, 2.0, BYTES / 8),
        candidate(0.2, 0.0095, 1.5, BYTES / 9),
        candidate(0.3, 0.002, 5.0, BYTES / 3),
    )
    chosen = deserving([bold, bolder, safe], [], 4, replace(PLAN, most_lost=0.01))
    assert chosen[:2] == [bolder, safe]


def test_within_the_limit_the_other_objectives_decide() -> None:
    exact, fast = candidate(0.1, 0.0, 4.0, BYTES / 2), candidate(0.2, 0.009, 3.0, BYTES / 2)
    assert deserving([exact, fast], [], 1, replace(PLAN, most_lost=0.01)) == [fast]
    assert deserving([exact, fast], [], 1, replace(PLAN, most_lost=0.005)) == [exact]


GRADED = Space([*SPACE.axes, QuantizationAxis(ModelShape(3, 2, 4, 8, 8, 10), (8, 4))])
# What a part's 4 bits cost in quality, and what they save in bytes.
PRICES = {
    "0.attention": 0.004,
    "0.ffn": 0.001,
    "1.attention": 0.002,
    "1.ffn": 0.008,
    "2.attention": 0.016,
    "2.ffn": 0.032,
}
SAVED = BYTES / 100


class Graded(Distilling):
    """The same problem, in which narrow parts save bytes and cost quality."""

    def evaluate(self, job: Job) -> Evaluation:
        evaluation = super().evaluate(job)
        if not isinstance(job, Score) or not isinstance(evaluation.outcome, Complete):
            return evaluation
        narrow = narrow_parts(job.member)
        outcome, lost = evaluation.outcome, sum(PRICES[part] for part in narrow)
        values = {
            **outcome.values,
            "kl": outcome.values["kl"] + lost,
            "size": outcome.values["size"] - SAVED * len(narrow),
        }
        return replace(evaluation, outcome=Complete(values, {**outcome.extras, "kl": values["kl"]}))


def narrow_parts(member: Member) -> set[str]:
    layers = member.config(Quantization).layers
    return {
        f"{layer}.{part}"
        for layer, bits in enumerate(layers)
        if bits is not None
        for part in ("attention", "ffn")
        if getattr(bits, part) == 4
    }


def test_between_two_widths_the_cheapest_parts_go_first(tmp_path: Path) -> None:
    record = Record.create(tmp_path, objectives=(KL, LATENCY, SIZE), bounds=())
    rng = random.Random(0)
    for _ in range(30):
        ends = {f"x.{knob}": rng.randint(2, 18) / 20 for knob in range(2)}
        member = GRADED.decode(Design({**GRADED.identity(), **SPACE.sample(rng), **ends}))
        record.finish(record.start(None, member), Graded().evaluate(Score(member)))
    further = Record.create(tmp_path, objectives=record.objectives, bounds=(), study=STUDY)
    plan, evaluator = replace(PLAN, members=1), Graded()
    (trained,) = Recovery(GRADED, record, further, InlineRunner(lambda: evaluator), plan, lambda *_: None).run()
    members = [GRADED.member(trial.decoded, trial.weights) for trial in further.trials()]
    found = [narrow_parts(member) for member in members if member.weights == trained.weights]
    cheapest = sorted(PRICES, key=PRICES.__getitem__)
    assert {part for one in found if len(one) == 1 for part in one} == PRICES.keys()
    assert all(set(cheapest[:count]) in found for count in range(len(PRICES) + 1))


def test_steep_members_are_shallow_and_narrow_in_the_smallest_and_in_the_fastest_widths() -> None:
    shape = ModelShape(layers=6, heads=4, head_size=2, ffn=32, hidden=8, vocab=99)
    layers = range(shape.layers)
    importance = Importance(((0.5,) * shape.heads,) * 6, ((0.5,) * shape.ffn,) * 6, tuple(map(float, layers)))
    pruning = PruningAxis(shape, importance, UnitCosts(0.1, 0.01), ffn_group=8)
    space = Space([pruning, QuantizationAxis(shape, (32, 8, 4))], [forget_absent_parts])

    def milliseconds(member: Member) -> float:
        """Where 8 bits are fast and 4 bits are not."""
        return 1.0 if 8 in member.config(Quantization).used else 2.0

    found = steep(space, milliseconds)
    assert len({member.key for member in found}) == len(found) == 2 * 5 * 3
    assert {bits for member in found for bits in member.config(Quantization).used} == {8, 4}
    assert {member.config(Quantization).embeddings for member in found} == {4}, "of equally fast tables the smallest"
    depths = {sum(units is not None for units in member.config(Pruning).layers) for member in found}
    assert depths <= {2, 3, 4, 5, 6}
    assert min(depths) == 2
    everywhere = len(steep(space, lambda member: sum(member.config(Quantization).used)))
    assert everywhere == 5 * 3, "where the smallest is the fastest there is one of each"
