"""The published recipes as runs: their own study, their outcome verified and picked, other sessions beside them."""

import json
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.config import RunConfig, refuse_foreign
from search.ledger import Outcome
from search.picks import recipe_picks
from search.record import Record
from search.run import resume
from search.samplers import significance
from search.samplers.significance import Goal, SignificanceSettings
from search.samplers.walk import Figures, Walk, WalkSampler
from spaces.axes.attention import AttentionAxis, forget_absent_attention
from spaces.axes.pruning import UnitPruningAxis
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.design import Design
from spaces.errors import ConfigError, RunError
from spaces.knobs import Scalar
from spaces.shape import ModelShape
from spaces.space import Space
from tests.contracts.sampler import SamplerContract
from tests.made_members import member as made
from tests.tiny_task import SHORT, write_encoder, write_rows

SHAPE = ModelShape(layers=2, heads=2, head_size=4, ffn=8, hidden=8, vocab=30)
GROUPS = 2


def grid_walk(space: Space, seed: int) -> Walk:
    """Every design of a coarse grid, in an order of its own; settles on the best."""
    rng, best = random.Random(seed), (float("inf"), space.identity())
    order = [space.sample(rng) for _ in range(400)]
    for design in order:
        figures = yield design
        best = min(best, (figures["kl"] if figures else float("inf"), design), key=lambda pair: pair[0])
    return best[1]


class TestWalk(SamplerContract):
    def make_sampler(self, record: Record, space: Space, seed: int) -> WalkSampler:
        return WalkSampler(record, space, lambda: grid_walk(space, seed))


def space_of(bits: tuple[int, ...] = (32, 8, 4)) -> Space:
    groups = [[range(0, 4), range(4, 8)]] * SHAPE.layers
    axes = [UnitPruningAxis(SHAPE, groups), QuantizationAxis(SHAPE, bits), AttentionAxis(SHAPE, ("sign@4",))]
    return Space(axes, [forget_absent_parts, forget_absent_attention])


def figures(loss: float, latency: float = 1.0, size: float = 1.0) -> Figures:
    folds = {f"loss.{fold}": loss for fold in range(5)}
    return {
        "loss": loss,
        "kl": max(0.0, loss - 1.0),
        "latency": latency,
        "size": size,
        "rows": 10,
        "unharmed": 10,
        "predicted_classes": 2,
        **folds,
    }


NARROW: dict[str, Scalar] = {"bits.level": 8, "bits.embeddings": 8, "bits.head": 8}


def walked(
    goal: Goal, harms: Mapping[str, float], narrow: Iterable[dict[str, Scalar]] = (NARROW,)
) -> dict[str, Scalar]:
    """What a walk changes in the end, where each changed knob adds its share to the loss and saves time and bytes."""
    start = space_of().identity()
    walk = significance.walk(start, SHAPE, SignificanceSettings(goal=goal, k=4), GROUPS, tuple(narrow))
    design = next(walk)
    try:
        while True:
            changed = [name for name, value in design.items() if value != start[name]]
            loss = 1.0 + sum(harms.get(name, 1.0) for name in changed)
            design = walk.send(figures(loss, *[1 - 0.001 * len(changed)] * 2))
    except StopIteration as end:
        return {name: value for name, value in end.value.items() if value != start[name]}


def test_significance_prunes_approximates_or_keeps() -> None:
    bits = dict.fromkeys(NARROW, 0.0)
    harms = {**bits, "ffn_block.0": 0.01, "attention_block.1": 0.1, "head.1.0": 0.005, "bits.shift.1.ffn": 0.02}
    assert walked("smaller", harms) == {**NARROW, "ffn_block.0": 0, "head.1.0": 0, "bits.shift.1.ffn": -1.0}


def test_parts_of_what_matters_much_are_not_looked_at() -> None:
    harms = {**dict.fromkeys(NARROW, 0.0), "attention_block.1": 0.3, "head.1.0": 0.0}
    assert walked("smaller", harms) == NARROW


def test_speed_is_bought_by_matching_signs_and_not_by_narrower_weights() -> None:
    harms = {**dict.fromkeys(NARROW, 0.0), "bits.shift.1.ffn": 0.0, "attention.0": 0.01}
    assert walked("faster", harms) == {**NARROW, "attention.0": "sign@4"}


def test_the_goal_decides_what_goes_first() -> None:
    either = {**dict.fromkeys(NARROW, 0.0), "attention_block.1": 0.015, "ffn_block.1": 0.015}
    assert "attention_block.1" in walked("faster", either)
    assert "ffn_block.1" in walked("smaller", either)


def test_what_makes_a_model_less_sure_of_itself_is_not_insignificant() -> None:
    """The loss of an over-confident model falls when parts go, while its answers change."""
    start = space_of().identity()
    walk = significance.walk(start, SHAPE, SignificanceSettings(goal="smaller", k=4), GROUPS, ())
    design, settled = next(walk), None
    while settled is None:
        changed = design != start
        found = {**figures(0.9 if changed else 1.0, size=0.5 if changed else 1.0), "kl": 0.2 * changed}
        try:
            design = walk.send(found)
        except StopIteration as end:
            settled = end.value
    assert settled == start


def test_accuracy_takes_only_what_lowers_the_loss() -> None:
    assert walked("accurate", {**dict.fromkeys(NARROW, -0.1), "ffn_block.1": -0.1, "ffn_block.0": 0.0}) == {
        "ffn_block.1": 0
    }


def test_with_one_width_there_are_no_fewer_bits() -> None:
    start = space_of((32,)).identity()
    walk = significance.walk(start, SHAPE, SignificanceSettings(goal="accurate", k=4), GROUPS, ())
    asked = [next(walk)]
    with suppress(StopIteration):
        while True:
            asked.append(walk.send(figures(1.0)))
    assert all(space_of((32,)).check(design) for design in asked)
    assert any(design["attention.1"] == "sign@4" for design in asked)


def test_flags_of_a_recipe_go_with_it() -> None:
    config = RunConfig.parse({"search": {"sampler": "significance"}})
    refuse_foreign(config, {"significance.goal": "smaller", "axformer.literal": None})
    with pytest.raises(ConfigError, match="--literal goes with --sampler axformer, found significance"):
        refuse_foreign(config, {"axformer.literal": True})


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["paretoformer", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def walked_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short search on a tiny encoder; AxFormer, its outcome fine-tuned again, and significance analysis beside it."""
    folder = tmp_path_factory.mktemp("recipes")
    rows, encoder = write_rows(folder / "rows.csv", rows=400), write_encoder(folder / "encoder")
    (folder / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\nsearch: {{workers: 1, trials: 4}}\n"
        f"axformer: {{groups: 2, k: 6}}\nsignificance: {{groups: 2, k: 6}}\n{SHORT}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        assert run("search", folder / "run.yaml", "--out", folder / "run") == 0
        assert run("resume", folder / "run", "--sampler", "axformer", "--refit") == 0
        assert run("resume", folder / "run", "--sampler", "significance", "--goal", "smaller") == 0
        yield folder / "run"


def front(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "front.json").read_text())
    return document


@pytest.mark.slow
def test_outcomes_are_stored_verified_and_picked(walked_run: Path) -> None:
    document = front(walked_run)
    members = {member["key"]: member for member in document["members"]}
    settled = Record.open(walked_run).results()
    assert set(settled) == {"axformer", "significance.smaller"}
    for outcome in settled.values():
        for key in outcome.keys:
            assert members[key]["verified"]
            assert (walked_run / members[key]["artifact"] / "model.onnx").is_file()
    picks = {pick["name"]: pick for pick in document["picks"]}
    assert picks["significance.smaller"]["key"] == settled["significance.smaller"].keys[0]
    assert "designs: loss" in picks["axformer"]["reason"]
    assert picks["axformer"]["key"] in (settled["axformer"].keys[0], None)


@pytest.mark.slow
def test_what_was_fine_tuned_again_has_weights_of_its_own(walked_run: Path) -> None:
    refitted, *others = Record.open(walked_run).results()["axformer"].keys
    trials = {trial.key: trial for trial in Record.open(walked_run).trials()}
    assert trials[refitted].weights.startswith("retrained:")
    assert trials[refitted].parents
    parent = trials[refitted].parents[0]
    assert parent in others
    assert trials[parent].decoded == trials[refitted].decoded


@pytest.mark.slow
def test_a_walk_that_is_over_is_not_walked_again(walked_run: Path) -> None:
    before = Record.open(walked_run).counts()
    assert run("resume", walked_run, "--sampler", "significance", "--goal", "smaller") == 0
    assert Record.open(walked_run).counts() == before


@pytest.mark.slow
def test_a_walk_is_not_ended_by_what_the_search_might_spend(walked_run: Path) -> None:
    searched = [trial for trial in Record.open(walked_run).trials() if trial.recipe == "search"]
    assert len(searched) == 4
    assert all(outcome.designs > 4 for outcome in Record.open(walked_run).results().values())


@pytest.mark.slow
def test_a_walk_that_was_cut_short_says_how_it_goes_on(walked_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("resume", walked_run, "--sampler", "significance", "--goal", "faster", "--trials", 2) == 0
    assert "significance.faster is not at its end after 2 designs" in "".join(capsys.readouterr())
    assert "significance.faster" not in Record.open(walked_run).results()


@pytest.mark.slow
def test_a_literal_walk_needs_a_run_of_its_own(walked_run: Path) -> None:
    with pytest.raises(RunError, match="Start a new run folder"):
        resume(walked_run, {"search.sampler": "axformer", "axformer.literal": True})


def test_an_outcome_that_loses_on_the_confirm_rows_is_no_pick_where_gains_are_wanted() -> None:
    settled = {"axformer": Outcome(("a",), 9, 0.41, 0.4)}
    for drop, confirming, key in ((0.01, {"axformer"}, None), (0.01, set[str](), "a"), (-0.01, {"axformer"}, "a")):
        (pick,) = recipe_picks(settled, [made("a", drop, 1.0, 1.0)], confirming)
        assert pick.key == key
        assert "after 9 designs: loss 0.4100 to 0.4000" in pick.reason
        assert ("the original stays" in pick.reason) == (key is None)
    assert recipe_picks(settled, [], set())[0].key is None


def test_designs_of_walks_are_of_the_space() -> None:
    space = space_of()
    for goal in ("faster", "smaller", "accurate"):
        settled = walked(goal, {})
        assert space.check(Design({**space.identity(), **settled}))
