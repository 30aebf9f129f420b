"""front.json: the published shape is read, written back unchanged, and never half written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.certificate import Certificate, Test
from search.figures import BandFigure, Estimate, LatencyFigure, MemberFigures, Pick, TargetFigures
from search.front_file import FILE_NAME, FrontFile, SplitRecord, read, write
from spaces.errors import RunError
from spaces.objectives import Bound
from tests.made_members import member

MEMBER: dict[str, Any] = {
    "key": "3fa1",
    "kind": "single",
    "decoded": {"layers": [None, {"heads": [0], "ffn": [0, 1], "bits": {"attention": 8, "ffn": 4}}]},
    "knobs": None,
    "recipe": "search",
    "weights": "finetuned",
    "parents": [],
    "stages": None,
    "meets_limits": True,
    "verified": True,
    "accuracy": {
        "search": {"value": 0.862, "ci95": [0.844, 0.879], "n": 1500, "drop": None},
        "confirm": {
            "value": 0.861,
            "ci95": [0.843, 0.878],
            "n": 1500,
            "drop": {"value": 0.002, "ci95": [-0.006, 0.01]},
        },
        "test": None,
    },
    "latency": {
        "mean_ms": 1.31,
        "p50_ms": 1.2,
        "p95_ms": 1.9,
        "rounds": 30,
        "processes": 3,
        "speedup": {"fair": [3.9, 3.8, 4.0], "one_liner": [1.5, 1.46, 1.55]},
        "bands": [{"tokens": [3, 14], "n": 25, "mean_ms": 0.8, "speedup": {"fair": [3.1, 3.0, 3.2]}}],
    },
    "size": {"bytes": 9100000, "tokenizer_bytes": 711000, "ratio": {"fair": 9.9}},
    "fidelity": {"agreement": 0.999},
    "artifact": "models/3fa1",
    "by_target": {
        "gpu-b": {
            "latency": {"mean_ms": 0.4, "p50_ms": 0.4, "p95_ms": 0.5, "rounds": 7, "processes": 3, "speedup": {}},
            "size": {"bytes": 9100000, "tokenizer_bytes": 711000, "ratio": {}},
            "artifact": "models/3fa1/gpu-b",
        }
    },
}
FRONT: dict[str, Any] = {
    "schema_version": 1,
    "run": "a",
    "targets": [{"label": "here", "device": "cpu"}],
    "seed": 0,
    "limits": {"latency": "5ms", "size": "50%"},
    "confidence": 0.95,
    "objectives": [
        {"name": "accuracy", "goal": "max", "unit": "fraction"},
        {"name": "latency", "goal": "min", "unit": "ms"},
        {"name": "size", "goal": "min", "unit": "bytes"},
    ],
    "splits": {"confirm": {"n": 1500, "sha256": "ab"}, "test": {"n": 1500, "sha256": "cd", "reads": 1}},
    "baselines": {"fair": {**MEMBER, "key": "fair", "kind": "baseline"}},
    "trials": {"complete": 150, "stopped": 0, "failed": 0, "running": 0, "duplicates": 0},
    "hypervolume": 0.81,
    "members": [MEMBER],
    "picks": [
        {"name": "limits", "key": "3fa1", "certified": True, "reason": "fastest", "rows_needed": None},
        {"name": "knee", "key": None, "certified": False, "reason": "none", "rows_needed": 4477},
    ],
}
FULL = FrontFile(
    run="a",
    seed=3,
    targets=({"label": "here"},),
    limits={"accuracy_drop": "1pt"},
    statistic="p95",
    splits={"test": SplitRecord(1500, "ab", 1)},
    baselines={"fair": member("fair", 0.0, 4.5, 90)},
    members=(member("a", 0.002, 1.0, 9.0), member("b", 0.02, 0.5, 5.0, verified=False, note="collapsed")),
    picks=(Pick("limits", "a", True, "fastest"),),
    certificate=Certificate({"a": Test(0.002, 0.009, 0.03, True)}),
    latency_model={"spearman": 0.98, "mean_error": 0.05, "n": 15},
    search={"designs_per_second": 1.4, "busy_share": 0.9},
)


def _saved(folder: Path, document: object) -> Path:
    (folder / FILE_NAME).write_text(json.dumps(document))
    return folder


def _without_additions(found: Any, published: Any) -> Any:
    """`found`, cut down to the entries that `published` has."""
    if isinstance(published, dict):
        return {name: _without_additions(found[name], published[name]) for name in published}
    if isinstance(published, list):
        return [_without_additions(a, b) for a, b in zip(found, published, strict=True)]
    return found


class TestShape:
    def test_the_published_shape_is_read(self, tmp_path: Path) -> None:
        front = read(_saved(tmp_path, FRONT))
        (only,) = front.members
        assert only.latency is not None
        assert only.latency.speedup["one_liner"] == Estimate(1.5, 1.46, 1.55)
        assert only.accuracy["confirm"].drop == Estimate(0.002, -0.006, 0.01)
        assert "test" not in only.accuracy
        assert front.splits["test"] == SplitRecord(1500, "cd", reads=1)
        assert front.picks[1] == Pick("knee", None, False, "none", 4477)

    def test_the_published_shape_is_written_back(self) -> None:
        assert _without_additions(FrontFile.from_json(FRONT).to_json(), FRONT) == FRONT

    def test_latencies_of_an_older_version_have_no_bands(self) -> None:
        older = {name: value for name, value in MEMBER["latency"].items() if name != "bands"}
        figure = LatencyFigure.from_json(older)
        assert figure.bands == ()
        banded = LatencyFigure.from_json(MEMBER["latency"])
        assert banded == replace(figure, bands=(BandFigure((3, 14), 25, 0.8, {"fair": Estimate(3.1, 3.0, 3.2)}),))

    def test_a_full_front_survives_the_file(self, tmp_path: Path) -> None:
        write(tmp_path, FULL)
        assert read(tmp_path) == FULL
        assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]

    def test_entries_of_a_newer_version_are_passed_over(self) -> None:
        newer = {**MEMBER, "novelty": 1, "latency": {**MEMBER["latency"], "energy_mj": 3}}
        assert MemberFigures.from_json(newer) == MemberFigures.from_json(MEMBER)

    def test_further_targets(self) -> None:
        figures = MemberFigures.from_json(MEMBER).by_target["gpu-b"]
        assert isinstance(figures, TargetFigures)
        assert figures.latency is not None
        assert figures.latency.mean_ms == 0.4


class TestBounds:
    def test_percentages_are_of_fair(self) -> None:
        assert FrontFile.from_json(FRONT).bounds() == (Bound("latency", 5.0, "5ms"), Bound("size", 4_550_000, "50%"))

    def test_a_percentage_needs_fair(self) -> None:
        with pytest.raises(RunError, match=r"latency limit 40% is a share of `fair`"):
            FrontFile(run="a", seed=0).bounds({"latency": "40%"})

    def test_relative_accuracy_drop(self) -> None:
        (bound,) = FrontFile.from_json(FRONT).bounds({"accuracy_drop": "1%"})
        assert bound.at_most == pytest.approx(0.00861)

    def test_limits_on_the_95th_percentile(self) -> None:
        (bound,) = FrontFile.from_json({**FRONT, "latency_statistic": "p95"}).bounds({"latency": "50%"})
        assert (bound.statistic, bound.at_most) == ("p95", 0.95)
        assert LatencyFigure(1.0).held("p95") == 1.0


class TestBadFiles:
    def test_not_a_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"holds no front.json"):
            read(tmp_path)

    def test_broken_json(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).write_text('{"schema_version": 1, ')
        with pytest.raises(RunError, match="cannot be read as JSON"):
            read(tmp_path)

    @pytest.mark.parametrize("document", [{**FRONT, "schema_version": 2}, [], "front", {}])
    def test_another_schema(self, tmp_path: Path, document: object) -> None:
        with pytest.raises(RunError, match="expected 1"):
            read(_saved(tmp_path, document))

    def test_a_missing_entry_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="lacks 'members'"):
            read(_saved(tmp_path, {name: value for name, value in FRONT.items() if name != "members"}))

    def test_an_entry_of_the_wrong_kind(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="is not a front"):
            read(_saved(tmp_path, {**FRONT, "members": [3]}))

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path) -> None:
        write(tmp_path, FULL)
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path, FrontFile(run="a", seed=0, hypervolume=float("nan")))
        assert read(tmp_path) == FULL
        assert len(list(tmp_path.iterdir())) == 1
