"""Figures kept from run to run: what is believed, what is not, and that losing them costs time only."""

import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from evaluators.base import Band, Score, Timing
from evaluators.kept_scores import KeptScores
from evaluators.kept_timings import KeptTimings
from evaluators.prepare import _timings_key
from evaluators.store import LATENCY, QUALITY, Store
from evaluators.transformer import TransformerEvaluator, Workload
from search import wiring
from search.config import RunConfig
from spaces.objectives import Complete
from spaces.space import Space
from spaces.target import Target
from tests.contracts.evaluator import EvaluatorContract
from tests.test_cli import call
from tests.test_transformer import space_of, workload

__all__ = ["workload"]


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestStore:
    def test_what_was_put_is_found_by_kind_and_key(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "figures.sqlite")
        store.put(QUALITY, "a", b"1")
        store.put(LATENCY, "a", b"2\n")
        store.put(QUALITY, "a", b"\x003\xff")
        again = pickle.loads(pickle.dumps(store))
        assert (again.get(QUALITY, "a"), again.get(LATENCY, "a"), again.get(QUALITY, "b")) == (
            b"\x003\xff",
            b"2\n",
            None,
        )
        assert {kind: (held.entries, held.bytes) for kind, held in store.held().items()} == {
            QUALITY: (1, 3),
            LATENCY: (1, 2),
        }
        assert store.clear(QUALITY) == 1
        assert (store.get(QUALITY, "a"), store.get(LATENCY, "a")) == (None, b"2\n")

    def test_what_is_too_old_is_not_believed(self, tmp_path: Path) -> None:
        clock = Clock()
        store = Store(tmp_path / "figures.sqlite", clock)
        store.put(LATENCY, "a", b"1")
        clock.now += 60
        assert store.get(LATENCY, "a", max_age=60) == b"1"
        assert store.get(LATENCY, "a", max_age=59) is None
        assert store.get(LATENCY, "a") == b"1"

    @pytest.mark.parametrize("broken", ["no database", "a folder"])
    def test_a_file_that_cannot_be_used_is_empty(
        self, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "figures.sqlite"
        path.mkdir() if broken == "a folder" else path.write_text("no database " * 100)
        store = Store(path)
        store.put(QUALITY, "a", b"1")
        assert store.get(QUALITY, "a") is None
        assert (store.held(), store.clear()) == ({}, 0)
        assert "cannot be used" in caplog.text


class TestKeptScores(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, workload: Workload, tmp_path: Path) -> KeptScores:
        return KeptScores(replace(workload, origin="here"), Store(tmp_path / "figures.sqlite"))

    @pytest.fixture
    def space(self, workload: Workload) -> Space:
        return space_of(workload)


class TestScores:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "figures.sqlite")

    def test_a_second_run_is_told_the_same_without_an_attempt(self, workload: Workload, store: Store) -> None:
        work, space = replace(workload, origin="here"), space_of(workload)
        for design in (space.identity(), space.extremes()["smallest"]):
            job = Score(space.decode(design), rows=12)
            first, second = KeptScores(work, store).evaluate(job), KeptScores(work, store).evaluate(job)
            assert (first.attempts, second.attempts) == (1, 0)
            assert second.outcome == first.outcome == TransformerEvaluator(work).evaluate(job).outcome
            assert second.predictions == first.predictions

    def test_latency_is_that_of_this_run_s_target(self, workload: Workload, store: Store) -> None:
        work, job = replace(workload, origin="here"), Score(space_of(workload).decode(space_of(workload).identity()))
        KeptScores(work, store).evaluate(job)
        slower = replace(work, latency=replace(workload.latency, fair_ms=20.0))
        found = KeptScores(slower, store).evaluate(job)
        assert found.attempts == 0
        assert isinstance(found.outcome, Complete)
        assert (
            found.outcome.values["latency"] == found.outcome.extras["latency"] == slower.latency.predict_ms(job.member)
        )
        assert found.outcome.extras["throughput"] == slower.speeds(job.member)["throughput"]

    @pytest.mark.parametrize("what", ["weights", "rows", "processor", "runtime", "batch"])
    def test_what_answers_otherwise_is_scored_anew(
        self, workload: Workload, store: Store, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work, space = replace(workload, origin="here"), space_of(workload)
        job = Score(space.decode(space.identity()), rows=12)
        KeptScores(work, store).evaluate(job)
        match what:
            case "weights":
                work = replace(work, origin="others")
            case "rows":
                job = replace(job, rows=11)
            case "processor":
                monkeypatch.setattr("evaluators.metrics.host.processor_name", lambda cpu: "another")
            case "runtime":
                monkeypatch.setattr(type(work.runtime), "version", "0.1")
            case "batch":
                work = replace(work, target=Target(batch_size=4))
        assert KeptScores(work, store).evaluate(job).attempts == 1


BANDS = Band((3, 14), 1, 1.0, {"fair": (4.0, 3.9, 4.1)}), Band((15, 20), 1, 3.0, {"fair": (4.0, 3.8, 4.2)})
TIMING = Timing(2.0, 1.9, 3.0, 9, 3, {"fair": (4.0, 3.9, 4.1)}, (1.0, 3.0), BANDS)
FAIR = Timing(8.0, 7.9, 9.0, 9, 3, {"fair": (1.0, 1.0, 1.0)}, (4.0, 12.0))


class TestTimings:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> dict[str, Path]:
        for name in ("fair", "member"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "model.onnx").write_text(name)
        return {name: tmp_path / name for name in ("fair", "member")}

    @pytest.fixture
    def kept(self, tmp_path: Path, folders: dict[str, Path]) -> KeptTimings:
        store = Store(tmp_path / "figures.sqlite", Clock())
        return KeptTimings(store, 60.0, "box", folders["fair"], Target(), ("a text",))

    def test_a_latency_moves_with_the_original_s(self, kept: KeptTimings, folders: dict[str, Path]) -> None:
        kept.keep(folders, {"fair": FAIR, "member": TIMING})
        known = kept.find(folders)
        assert known["member"].timing == TIMING
        now = known["member"].now(8.8)  # a tenth more than in that session
        assert (now.mean_ms, now.p50_ms, now.p95_ms) == pytest.approx((2.2, 2.09, 3.3))
        assert now.per_call_ms == pytest.approx((1.1, 3.3))
        assert [band.mean_ms for band in now.bands] == pytest.approx([1.1, 3.3])
        assert [band.speedup for band in now.bands] == [band.speedup for band in BANDS]
        assert now.speedup == TIMING.speedup

    def test_a_latency_that_an_older_version_kept_is_measured_again(
        self, kept: KeptTimings, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def older(timing: Timing) -> dict[str, object]:
            return {name: value for name, value in asdict(timing).items() if name != "bands"}

        with monkeypatch.context() as patch:
            patch.setattr("evaluators.kept_timings.asdict", older)
            kept.keep(folders, {"fair": FAIR, "member": TIMING})
        assert kept.find(folders) == {}

    @pytest.mark.parametrize("what", ["model", "original", "target", "machine", "texts", "age"])
    def test_what_would_take_another_time_is_timed_again(
        self, kept: KeptTimings, folders: dict[str, Path], what: str
    ) -> None:
        kept.keep(folders, {"fair": FAIR, "member": TIMING})
        match what:
            case "model":
                (folders["member"] / "model.onnx").write_text("another")
            case "original":
                (folders["fair"] / "model.onnx").write_text("another")
                kept = replace(kept)  # of a later session
            case "target":
                kept = replace(kept, target=Target(threads=2))
            case "machine":
                kept = replace(kept, node="another")
            case "texts":
                kept = replace(kept, texts=("another text",))
            case "age":
                kept.store.clock.now += 61  # type: ignore[attr-defined]
        assert "member" not in kept.find(folders)


class TestCommands:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path))
        return tmp_path

    def test_an_empty_cache_says_so(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        assert call(capsys, "cache", "info") == (0, f"{folder}: empty\n", "")

    def test_figures_are_counted_and_cleared(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        Store().put(QUALITY, "a", b"1" * 2_000_000)
        (folder / "finetuned" / "one").mkdir(parents=True)
        (folder / "finetuned" / "one" / "model").write_text("x")
        (folder / "mine.txt").write_text("of somebody else")
        downloads = [folder / "from-pypi-1.0.tar.gz", folder / "from-npm-1.0.tgz"]
        for archive in downloads:
            archive.write_text("x")
        _, out, _ = call(capsys, "cache", "info")
        assert "quality            1 figures        2.0 MB" in out
        assert "finetuned" in out
        code, out, _ = call(capsys, "cache", "clear")
        assert (code, out.startswith("Forgot 1 figures.")) == (0, True)
        assert (folder / "finetuned" / "one").exists()
        assert call(capsys, "cache", "clear", "--everything")[0] == 0
        assert not any(path.exists() for path in (folder / "finetuned", *downloads))
        assert (folder / "mine.txt").exists()


def test_timings_of_models_that_smooth_are_not_those_of_others() -> None:
    """Smoothing takes some percent of the time of 8 bits, which latency models are fitted to."""
    work = wiring.assignment(RunConfig.parse({"model": "minilm", "task": "movie-reviews"}))
    keys = [_timings_key(replace(work, smooth=smooth), work.target, b"graph", ()) for smooth in (True, False, True)]
    assert keys[0] == keys[2] != keys[1]
