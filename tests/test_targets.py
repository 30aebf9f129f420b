"""Searching for several machines: configuration, limits, predictions, what is measured where, other targets later."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.device_profile import DeviceProfile
from evaluators.device_terms import NAMES
from evaluators.latency_model import HeldOut
from evaluators.metrics.host import this_target
from search import wiring
from search.config import RunConfig
from search.so_far import read_config, write_config
from spaces.errors import ConfigError
from spaces.target import Target
from tests.test_cli import call, exit_code, refused
from tests.tiny_task import SHORT, write_encoder, write_rows

HERE = this_target("onnxruntime", wiring.runtime_version("onnxruntime"), 1, 1, "real")


def write_profile(path: Path, target: Target, scale: float = 1.0) -> Path:
    """A profile of made-up costs, which other tests show to be read as they are."""
    costs = {**dict.fromkeys(NAMES, 1e-4 * scale), "constant": 0.05 * scale}
    held_out = tuple(HeldOut(ms, 1.05 * ms) for ms in (1.0, 2.0, 3.0))
    profile = DeviceProfile(target, costs, held_out, 1, (32, 8, 4), {}, "2026-11-22T10:00:00+00:00")
    profile.write(path)
    return path


@pytest.fixture
def far(tmp_path: Path) -> Path:
    return write_profile(tmp_path / "far.json", Target(label="far", processor="another", threads=4))


class TestConfiguration:
    def test_a_file_a_mapping_or_several_are_targets(self, far: Path) -> None:
        config = RunConfig.parse({"target": ["far.json", {"threads": 2, "label": "two"}]})
        assert [each.profile for each in config.target] == ["far.json", None]
        config = RunConfig.parse({"target": [str(far), {"threads": 2}]})
        described, here = wiring.targets(config)
        assert (described.label, described.processor, described.threads) == ("far", "another", 4)
        assert here == replace(HERE, threads=2)
        assert not wiring.is_here(config, described)
        assert wiring.is_here(config, here)
        assert [each.name for each in wiring.objectives(config)] == ["accuracy", "latency", "size", "latency@here"]

    def test_a_label_in_the_configuration_replaces_the_file_s(self, far: Path) -> None:
        config = RunConfig.parse({"target": {"profile": str(far), "label": "pi", "lengths": 64}})
        assert [(each.label, each.lengths) for each in wiring.targets(config)] == [("pi", 64)]

    @pytest.mark.parametrize(
        ("target", "limits", "complaint"),
        [
            ([{"threads": 2}, {"threads": 1}], {}, "have one label"),
            ([{}, {"label": "b", "batch_size": 8}], {}, "batch_size differs"),
            ([{}, {"label": "b", "runtime": "torch"}], {}, "runtime differs"),
            ([{}, {"label": "b", "threads": 2}], {"latency@c": "5ms"}, "'c' is no further target of this run; found b"),
            ({}, {"latency@here": "5ms"}, "'here' is no further target"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, target: object, limits: object, complaint: str) -> None:
        with pytest.raises(ConfigError, match=complaint):
            wiring.check(RunConfig.parse({"target": target, "limits": limits}))

    def test_two_files_of_one_machine_need_labels(self, far: Path) -> None:
        with pytest.raises(ConfigError, match="two of far, far have one label"):
            wiring.check(RunConfig.parse({"target": [str(far), str(far)]}))

    def test_a_gpu_that_is_not_there_is_said_once_and_the_cpu_takes_over(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("evaluators.metrics.host.accelerators", tuple)
        wiring._no_gpu.cache_clear()
        config = RunConfig.parse({"target": {"device": "cuda"}})
        assert wiring.targets(config) == wiring.targets(config) == (HERE,)
        assert sum("A GPU is asked for" in record.message for record in caplog.records) == 1

    def test_a_call_on_a_gpu_has_32_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("evaluators.metrics.host.accelerators", lambda: ("H100, 9.0",))
        found = [wiring.targets(RunConfig.parse({"target": {"device": d}}))[0].batch_size for d in ("cuda", "cpu")]
        assert found == [32, 1]
        with pytest.raises(ConfigError, match="take 32 or more"):
            RunConfig.parse({"target": {"device": "cuda", "batch_size": 1}})

    def test_a_profile_says_threads_and_device_itself(self) -> None:
        with pytest.raises(ConfigError, match="threads: the profile says that"):
            RunConfig.parse({"target": {"profile": "far.json", "threads": 2}})

    def test_cascades_need_a_latency_that_is_measured(self, far: Path) -> None:
        with pytest.raises(ConfigError, match="far is another machine"):
            wiring.check(RunConfig.parse({"target": str(far), "verify": {"cascades": 2}}))

    def test_limits_at_targets_are_kept_in_the_resolved_file(self, far: Path) -> None:
        import yaml

        config = RunConfig.parse({"target": [{}, str(far)], "limits": {"latency": "5ms", "latency@far": "50%"}})
        assert RunConfig.parse(yaml.safe_load(config.to_yaml())) == config
        assert [(limit.name, limit.asked) for limit in config.limits.limits()] == [
            ("latency", "5ms"),
            ("latency@far", "50%"),
        ]

    def test_a_target_that_cannot_be_read_is_refused(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        message = refused(capsys, "search", "--target", tmp_path / "none.json", "--out", tmp_path / "run")
        assert "Cannot read target" in message
        assert "paretoformer profile --out" in message


class TestProfile:
    """What is wrong is said before anything is timed."""

    @pytest.fixture(autouse=True)
    def untimed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("evaluators.profiling.measure", lambda *_, **__: pytest.fail("it was timed"))

    def test_a_file_that_cannot_be_written_is_refused(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "it is a folder" in refused(capsys, "profile", "--out", tmp_path)
        assert "cannot be written" in refused(capsys, "profile", "--out", tmp_path / "file" / "device.json")

    def test_a_label_that_no_flag_could_name_is_refused(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        out = tmp_path / "device.json"
        assert "'target.label'" in refused(capsys, "profile", "--out", out, "--label", "a box=1")
        assert not out.exists()


def test_a_run_s_own_files_may_be_named_in_another_order(far: Path, tmp_path: Path) -> None:
    near = write_profile(tmp_path / "near.json", Target(label="near", processor="third"))
    run = tmp_path / "run"
    write_config(run, RunConfig.parse({"target": [str(far), str(near)]}), ["far", "near"])
    own = [str(run / "targets" / name) for name in ("1.json", "0.json")]
    config = write_config(run, RunConfig.parse({"target": own}), ["near", "far"])
    assert [(each.label, each.processor) for each in wiring.targets(config)] == [("near", "third"), ("far", "another")]
    assert config == read_config(run)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run for this machine and another one."""
    folder = tmp_path_factory.mktemp("targets")
    rows, encoder = write_rows(folder / "rows.csv", rows=600), write_encoder(folder / "encoder")
    write_profile(folder / "far.json", Target(label="far", processor="another", threads=4))
    (folder / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\nspace: {{pruning: {{ffn_group: 16}}}}\n"
        f"target: [{{label: here}}, {folder / 'far.json'}]\n"
        "limits: {accuracy_drop: 20pt, latency@far: 200%}\nsearch: {trials: 12, rows: 60, workers: 1}\n"
        f"{SHORT}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        assert exit_code("search", folder / "run.yaml", "--out", folder / "run") == 0
        (folder / "far.json").unlink()  # the run keeps its own copy
        yield folder / "run"


def document(run: Path) -> dict[str, list[dict[str, object]]]:
    content: dict[str, list[dict[str, object]]] = json.loads((run / "front.json").read_text())
    return content


@pytest.mark.slow
def test_every_member_has_a_latency_at_every_target(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    front = json.loads((run / "front.json").read_text())
    assert [(each["label"], each["measured"]) for each in front["targets"]] == [("here", True), ("far", False)]
    assert [each["name"] for each in front["objectives"]] == ["accuracy", "latency", "size", "latency@far"]
    for member in (each for each in front["members"] if each["verified"]):
        assert member["latency"]["rounds"] >= 3
        assert member["by_target"]["far"]["latency"]["rounds"] == 0
        assert member["by_target"]["far"]["latency"]["mean_ms"] == member["fidelity"]["predicted_ms@far"]
    trials = list(csv.DictReader((run / "trials.csv").read_text().splitlines()))
    assert all(float(trial["latency@far"]) > 0 for trial in trials)
    assert read_config(run).target[1].profile == str(run / "targets" / "1.json")
    code, out, _ = call(capsys, "front", run)
    assert code == 0
    assert "mean latency by target" in out
    assert "predicted" in out


@pytest.mark.slow
def test_select_goes_by_the_target_that_is_named(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    asked = ("select", run, "--no-limits", "--prefer", "latency", "--format", "json")
    code, out, _ = call(capsys, *asked, "--target", "far")
    assert code == 0
    members = [each for each in json.loads((run / "front.json").read_text())["members"] if each["verified"]]
    fastest = min(members, key=lambda each: each["by_target"]["far"]["latency"]["mean_ms"])
    assert json.loads(out)["latency"] == fastest["by_target"]["far"]["latency"]
    assert "has no target 'mars'; found here, far" in refused(capsys, "select", run, "--target", "mars")
    assert "no such further target; found far" in refused(capsys, "select", run, "--max-latency", "mars=5ms")
    code, out, err = call(capsys, "select", run, "--max-latency", "far=0.0001ms")
    assert (code, out) == (3, "")
    assert "--max-latency far=" in err


@pytest.mark.slow
def test_another_target_re_times_nothing_that_was_searched(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    slower = write_profile(tmp_path / "slower.json", Target(label="slower", processor="third"), scale=7.0)
    before = {row["key"]: row for row in csv.DictReader((run / "trials.csv").read_text().splitlines())}
    (run / "config.resolved.yaml").write_text(
        (run / "config.resolved.yaml").read_text().replace("    far: 200%\n", "    slower: 200%\n")
    )
    here = write_profile(tmp_path / "here.json", replace(HERE, label="box"))
    code, _, err = call(capsys, "resume", run, "--target", here, "--target", slower)
    assert code == 0, err
    front = json.loads((run / "front.json").read_text())
    assert [(each["label"], each["measured"]) for each in front["targets"]] == [("box", True), ("slower", False)]
    after = {row["key"]: row for row in csv.DictReader((run / "trials.csv").read_text().splitlines())}
    assert after.keys() == before.keys()
    assert all(after[key]["started"] == row["started"] for key, row in before.items())  # scored once, then
    assert all(after[key]["latency"] != row["latency"] for key, row in before.items())
    assert all(after[key]["latency@slower"] for key in after)


@pytest.mark.slow
def test_exported_members_are_measured_on_a_machine_that_did_not_search(
    capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((run / "front.json").read_text())
    with monkeypatch.context() as patch:  # a machine that is none of the targets
        patch.setattr("evaluators.metrics.host.processor_name", lambda cpu: "another processor")
        patch.setattr("evaluators.metrics.host.platform.node", lambda: "serving box")
        code, _, err = call(capsys, "verify", run, "--on", "here")
    assert code == 0, err
    assert "answers are those that search scored" in err
    code, _, err = call(capsys, "verify", run, "--on", "here")
    assert code == 0, err
    assert "predicted latency was off by" in err
    after = json.loads((run / "front.json").read_text())
    labels = [each["label"] for each in after["targets"]]
    assert labels == [*(each["label"] for each in before["targets"]), "serving-box"]
    for member in (each for each in after["members"] if each["verified"]):
        there = member["by_target"]["serving-box"]
        assert there["latency"]["rounds"] >= 3
        assert there["agreement"] == 1.0
        assert there["accuracy"] == member["accuracy"]["confirm"]
        assert member["latency"]["speedup"]["fair"][0] > 0
    assert [pick["name"] for pick in after["picks"]] == [pick["name"] for pick in before["picks"]]


@pytest.mark.slow
def test_other_rows_than_the_run_s_are_refused(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    rows = run.parent / "rows.csv"
    kept = rows.read_text()
    rows.write_text(kept.replace("film", "movie"))
    try:
        assert "rows are not those of run" in refused(capsys, "verify", run, "--on", "here")
    finally:
        rows.write_text(kept)


@pytest.mark.slow
def test_a_profile_of_this_machine_can_be_searched_for_and_benched_with(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluators.profiling._ROUNDS", 3)
    monkeypatch.setattr("evaluators.profiling._PROCESSES", 1)
    code, out, err = call(capsys, "profile", "--out", tmp_path / "device.json", "--label", "box")
    assert code == 0, err
    assert "are off by" in out
    profile = DeviceProfile.read(tmp_path / "device.json")
    assert profile.target == replace(HERE, label="box")
    assert len(profile.held_out) == 12
    fair = run / "baseline" / "fair"
    command = ("bench", fair, "--task", run.parent / "rows.csv", "--target", tmp_path / "device.json")
    assert call(capsys, *command)[0] == 0
