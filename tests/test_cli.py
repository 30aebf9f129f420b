"""The command line: exit codes, one-line errors on standard error, and what it does not load."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from evaluators import bench, cores, instances
from evaluators.instances import Throughput
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from search import cli, present
from search.so_far import read_config
from tests.benchmarks.browser import chromium, opened
from tests.tiny_export import export
from tests.tiny_task import SHORT, write_encoder, write_rows


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    code = exit_code(*arguments)
    out, err = capsys.readouterr()
    return code, out, err


def exit_code(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["paretoformer", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return int(left.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a caller's mistake is answered with, progress lines apart."""
    code, out, err = call(capsys, *arguments)
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.strip().splitlines() if not line.startswith("[")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize("arguments", [["--help"], ["list", "samplers"]])
def test_answers_within_a_second_and_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys, time; begin = time.perf_counter(); sys.argv = ['paretoformer', *sys.argv[1:]]\n"
        "from search import cli\n"
        "try: cli.main()\n"
        "except SystemExit as left: assert not left.code\n"
        "loaded = {'torch', 'transformers', 'optuna', 'ray', 'onnxruntime'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(("begun", "cure"), [(True, "go on with: paretoformer resume"), (False, "with --out")])
def test_a_full_disk_is_one_line_that_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool, cure: str
) -> None:
    def full(*given: object) -> int:
        if begun:
            (tmp_path / "config.resolved.yaml").touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "study.log"))

    monkeypatch.setattr("search.run.search", full)
    message = refused(capsys, "search", "--model", "minilm", "--task", "movie-reviews", "--out", tmp_path)
    assert f"{tmp_path / 'study.log'} cannot be written: No space left on device." in message
    assert cure in message


def test_every_command_has_an_example() -> None:
    assert all("Example: paretoformer" in (command.epilog or "") for command in cli.app.registered_commands)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.csv", rows=80)


def edited(rows: Path, name: str, edit: object) -> Path:
    """A copy of the file with its lines changed."""
    lines = rows.read_text().splitlines()
    path = rows.with_name(name)
    path.write_text("\n".join(edit(lines)) + "\n")  # type: ignore[operator]
    return path


def test_an_unknown_configuration_key_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("search: {trails: 3}")
    error = refused(capsys, "search", tmp_path / "c.yaml", "--out", tmp_path / "run")
    assert "search.trails" in error
    assert "'trials'" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "text"), [("--max-latency", "5"), ("--max-latency", "5MB"), ("--max-size", "20ms"), ("--max-size", "0MB")]
)
def test_a_wrong_unit_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, flag: str, text: str) -> None:
    assert text in refused(capsys, "search", flag, text, "--out", tmp_path / "run")


def test_names_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert "movie-reviews" in refused(capsys, "search", "--task", "film-reviews", *out)
    assert "nsga2" in refused(capsys, "search", "--task", rows, "--sampler", "nsga3", *out)
    assert "minilm" in refused(capsys, "search", "--task", rows, "--model", "no/such/folder", *out)
    assert not (tmp_path / "run").exists()
    assert "samplers" in refused(capsys, "list", "things")
    assert "--no-such-option" in refused(capsys, "search", "--no-such-option", "3", *out)


def test_a_model_without_text_or_weights_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, "search", "--task", rows, "--model", tmp_path / "empty", "--out", tmp_path / "r")


def test_data_that_cannot_be_used_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path, encoder: Path
) -> None:
    def error(path: Path) -> str:
        return refused(capsys, "search", "--model", encoder, "--task", path, "--out", tmp_path / "run")

    assert "there.csv" in error(tmp_path / "not-there.csv")
    (tmp_path / "nothing.csv").write_text("")
    assert "empty" in error(tmp_path / "nothing.csv")
    assert "label" in error(edited(rows, "column.csv", lambda lines: ["text,lable", *lines[1:]]))
    assert "50" in error(edited(rows, "few.csv", lambda lines: lines[:40]))
    one = edited(rows, "one.csv", lambda lines: [line.replace(",bad", ",good") for line in lines])
    assert "every row has the label" in error(one)
    nan = edited(rows, "nan.csv", lambda lines: [*lines[:9], "a film,NaN", *lines[9:]])
    assert "row 9 has no label" in error(nan)


def test_a_folder_that_is_no_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in ("status", "front", "select", "resume", "verify", "report"):
        assert str(tmp_path) in refused(capsys, command, tmp_path)


def test_a_folder_in_use_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path) -> None:
    assert "resume" in refused(capsys, "search", "--task", rows, "--out", tmp_path)


def test_what_is_no_exported_model_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path) -> None:
    assert "design.json" in refused(capsys, "predict", tmp_path, "--text", "a film")
    assert "design.json" in refused(capsys, "bench", tmp_path, "--task", rows)
    assert "--text" in refused(capsys, "predict", tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(OnnxRuntime(), tmp_path_factory.mktemp("exported") / "model")


def write_texts(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many", ""])
def test_a_wrong_number_of_instances_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path, number: str
) -> None:
    texts = write_texts(tmp_path / "in.jsonl", "a film")
    assert "number from 1, or auto" in refused(capsys, "predict", tmp_path, "--file", texts, f"--instances={number}")
    assert "number from 1, or auto" in refused(capsys, "bench", tmp_path, "--task", rows, f"--instances={number}")


def test_options_that_go_together_are_asked_for_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: Path
) -> None:
    assert "--file" in refused(capsys, "predict", tmp_path, "--text", "a film", "--instances", "2")
    assert "--instances" in refused(capsys, "bench", tmp_path, "--task", rows, "--batch-size", "8")


def test_a_file_is_predicted_in_order_by_one_process_or_several(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path
) -> None:
    texts = write_texts(tmp_path / "in.jsonl", *["a warm film", "two hours of boredom and boredom", "dull"] * 50)
    code, alone, _ = call(capsys, "predict", exported, "--file", texts)
    assert code == 0
    assert len(alone.splitlines()) == 150
    code, shared, err = call(capsys, "predict", exported, "--file", texts, "--instances", "3", "--batch-size", "4")
    assert code == 0
    assert ("take turns" in err) == (cores.usable_instances(1) < 3)
    for one, other in zip(alone.splitlines(), shared.splitlines(), strict=True):
        assert json.loads(one)["label"] == json.loads(other)["label"]
        assert json.loads(one)["score"] == pytest.approx(json.loads(other)["score"], abs=1e-5)


def test_lines_without_text_are_named_before_any_answer(
    capsys: pytest.CaptureFixture[str], exported: Path, tmp_path: Path
) -> None:
    texts = write_texts(tmp_path / "in.jsonl", "a film", "dull")
    texts.write_text(texts.read_text() + '{"txt": "a film"}\n')
    assert "line 3: expected" in refused(capsys, "predict", exported, "--file", texts, "--instances", "1")
    (tmp_path / "latin.jsonl").write_bytes('{"text": "café"}\n'.encode("latin-1"))
    assert "not UTF-8" in refused(capsys, "predict", exported, "--file", tmp_path / "latin.jsonl")
    (tmp_path / "empty.jsonl").touch()
    assert "is empty" in refused(capsys, "predict", exported, "--file", tmp_path / "empty.jsonl")


def test_a_pipe_can_be_predicted(exported: Path) -> None:
    command = [sys.executable, "-m", "search.cli", "predict", str(exported), "--file", "/dev/stdin"]
    done = subprocess.run(command, input='{"text": "a film"}\n' * 3, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.slow
def test_an_interrupt_ends_all_instances(exported: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "in.jsonl", *["a warm film"] * 200_000)
    command = [sys.executable, "-m", "search.cli", "predict", str(exported), "--file", str(texts), "--instances", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "label" in json.loads(running.stdout.readline())
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 2
        running.send_signal(signal.SIGTERM)  # a shell's background jobs ignore SIGINT, whose way this goes too
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_bench_prints_throughput_beside_latency_where_it_was_measured() -> None:
    row = {
        "model": "a",
        "accuracy": {"value": 0.9, "ci95": [0.8, 1.0], "n": 10},
        "drop": {"value": 0.0, "ci95": [0.0, 0.0]},
        "latency": {"mean_ms": 1.0, "p95_ms": 2.0, "speedup": [1.0, 1.0, 1.0]},
        "size": {"bytes": 1_000_000, "tokenizer_bytes": 0},
    }
    assert "rows/s" not in present.bench([row], "table")
    found = Throughput(4, 2, 8, (1000.0, 1200.0, 1100.0), (900.0, 900.0, 900.0))
    shown = present.bench([{**row, "throughput": found.to_json(found, seed=0)}], "table")
    assert "1,100 [1,000, 1,200]  1.00 [1.00, 1.00]  900" in shown
    assert "4 x 2, 8" in shown


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A cache with what every run of the encoder on 600 rows begins with: it fine-tuned, and its latency model."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = write_rows(folder / "rows.csv", rows=600)
    (folder / "run.yaml").write_text(f"model: {encoder}\ntask: {{file: {rows}}}\n{SHORT}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        assert exit_code("search", folder / "run.yaml", "--out", folder / "run", "--dry-run") == 0
    return folder / "cache"


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, encoder: Path, prepared: Path) -> Iterator[Path]:
    """A finished run of twelve trials on a tiny encoder and 600 rows."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(prepared, folder / "cache")
    rows = write_rows(folder / "rows.csv", rows=600)
    (folder / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\nspace: {{pruning: {{ffn_group: 16}}}}\n"
        "limits: {accuracy_drop: 20pt}\nsearch: {trials: 12, rows: 60, workers: 1}\n"
        f"{SHORT}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        assert exit_code("search", folder / "run.yaml", "--out", folder / "run") == 0
        yield folder / "run"


@pytest.mark.slow
def test_a_run_leaves_every_file_of_the_interface(tiny_run: Path) -> None:
    files = {path.name for path in tiny_run.iterdir()}
    expected = "config.resolved.yaml env.json study.log importance.json trials.csv timings.csv predictions front.json"
    assert set(expected.split()) | {"report.html", "front.png", "baseline", "models"} <= files
    front = json.loads((tiny_run / "front.json").read_text())
    assert front["trials"]["complete"] == 12
    verified = [member for member in front["members"] if member["verified"]]
    assert len(verified) == 4
    assert all(member["fidelity"]["agreement"] == 1.0 for member in verified)
    assert all(abs(m["fidelity"]["predicted_bytes"] / m["size"]["bytes"] - 1) < 0.1 for m in verified)
    assert set(front["baselines"]) == {"fair", "one_liner", "pipeline", "linear"}
    timed = [each["latency"] for each in (*verified, *front["baselines"].values())]
    assert all(sum(band["n"] for band in latency["bands"]) == 10 for latency in timed)
    assert len({str([band["tokens"] for band in latency["bands"]]) for latency in timed}) == 1
    tested = [member for member in front["members"] if member["accuracy"]["test"] is not None]
    assert 1 <= len(tested) <= 3
    assert front["splits"]["test"]["reads"] == 1
    assert front["picks"][0]["name"] == "limits"


@pytest.mark.slow
def test_the_page_of_a_real_run_picks_as_select_does(capsys: pytest.CaptureFixture[str], tiny_run: Path) -> None:
    key = next(m["key"] for m in json.loads((tiny_run / "front.json").read_text())["members"] if m["verified"])
    with chromium() as browser:
        page = opened(browser, tiny_run / "report.html")
        for name in ("latency", "size", "accuracy_drop"):
            for step in (160, 40, 200):
                page.page.locator(f"#range-{name}").fill(str(step))
                picked, arguments = page.select()
                code, out, _ = call(capsys, *arguments, "--format", "json")
                assert (code, picked) == ((3, "") if code else (0, json.loads(out)["key"]))
        page.page.locator(f"a[href='#{key}']").last.click()
        assert page.page.locator("#member .strip tr").count() > 3
        assert page.errors == []
        assert {url.partition("#")[0] for url in page.requests} == {(tiny_run / "report.html").as_uri()}


def test_another_quality_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "'kl' or 'metric'; found 'f1'" in refused(capsys, "search", "--quality", "f1", "--out", tmp_path / "run")


@pytest.mark.slow
def test_a_search_for_accuracy_picks_a_gain_that_counts_or_the_original(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    rows = write_rows(tmp_path / "rows.csv", rows=600)
    (tmp_path / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\nspace: {{pruning: {{ffn_group: 16}}}}\n"
        f"search: {{trials: 12, workers: 1}}\n{SHORT}"
    )
    run = tmp_path / "run"
    code, out, err = call(capsys, "search", tmp_path / "run.yaml", "--quality", "metric", "--out", run)
    assert code == 0, err
    front = json.loads((run / "front.json").read_text())
    gain, pick = front["gain"], front["picks"][0]
    assert (gain["designs"], gain["left_out"], gain["rows"]) == (12, 0, front["splits"]["search"]["n"])
    assert pick["name"] == "gain"
    assert pick["key"] == (gain["chosen"] if gain["counts"] else gain["original"])
    assert pick["reason"] in out
    verified = {member["key"] for member in front["members"] if member["verified"]}
    assert {gain["original"], *(leader["key"] for leader in gain["leaders"])} <= verified
    assert front["splits"]["test"]["reads"] == gain["counts"]
    assert (run / "trials.csv").read_text().splitlines()[0].endswith(",accuracy,latency,size")
    assert "Gain of accuracy" in (run / "report.html").read_text()


@pytest.mark.slow
def test_a_model_that_learnt_nothing_is_named_before_the_search(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run.yaml").write_text("finetune: {epochs: 1}")
    command = ("search", tmp_path / "run.yaml", "--model", encoder, "--task", rows, "--out", tmp_path / "run")
    assert exit_code(*command, "--dry-run") == 0
    assert f"{encoder} answers every row alike" in caplog.text


@pytest.mark.slow
def test_front_and_select_read_a_run_without_torch(tiny_run: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom search import cli\n"
        "try: cli.main()\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules and 'optuna' not in sys.modules\n"
    )
    for arguments in (["front"], ["select", "--export", str(tmp_path / "m")], ["front", "--format", "json"]):
        begin = time.perf_counter()
        command = [sys.executable, "-c", code, arguments[0], str(tiny_run), *arguments[1:]]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert time.perf_counter() - begin < 10  # a hang, not a benchmark


@pytest.mark.slow
def test_a_selected_model_predicts_like_its_example(
    capsys: pytest.CaptureFixture[str], tiny_run: Path, tmp_path: Path
) -> None:
    code, out, _ = call(capsys, "select", tiny_run, "--export", tmp_path / "m", "--format", "json")
    assert code == 0
    assert json.loads(out)["exported"] == str(tmp_path / "m")
    card = (tmp_path / "m" / "README.md").read_text()
    assert (tmp_path / "m" / "example.py").read_text() in card
    texts = ["a fine warm film", "dull grim plot", "the story with cast"]
    example = subprocess.run(
        [sys.executable, str(tmp_path / "m" / "example.py"), *texts], capture_output=True, text=True, check=True
    )
    lines = []
    for text in texts:
        _, out, _ = call(capsys, "predict", tmp_path / "m", "--text", text)
        answer = json.loads(out)
        lines.append(f"{answer['label']} {answer['score']:.4f}")
    assert example.stdout.splitlines() == lines
    assert "not empty" in refused(capsys, "select", tiny_run, "--export", tmp_path / "m")


@pytest.mark.slow
def test_limits_that_nothing_meets_exit_3_and_name_the_nearest_miss(
    capsys: pytest.CaptureFixture[str], tiny_run: Path
) -> None:
    code, out, err = call(capsys, "select", tiny_run, "--max-latency", "0.000001ms")
    assert (code, out) == (3, "")
    assert "nearest" in err
    assert "--max-latency" in err


@pytest.mark.slow
def test_status_and_report_and_bench(capsys: pytest.CaptureFixture[str], tiny_run: Path) -> None:
    code, out, _ = call(capsys, "status", tiny_run)
    assert code == 0
    assert "12 complete" in out
    (tiny_run / "report.html").unlink()
    assert call(capsys, "report", tiny_run)[0] == 0
    assert (tiny_run / "report.html").exists()
    model = next((tiny_run / "models").iterdir())
    rows = tiny_run.parent / "rows.csv"
    command = ("bench", model, tiny_run / "baseline" / "fair", "--task", rows, "--format", "json")
    code, out, _ = call(capsys, *command)
    assert code == 0
    table = json.loads(out)
    assert [row["model"] for row in table] == [str(model), str(tiny_run / "baseline" / "fair")]
    assert table[0]["latency"]["speedup"] == [1.0, 1.0, 1.0]
    assert "throughput" not in table[0]


@pytest.mark.slow
def test_bench_measures_the_whole_machine(
    capsys: pytest.CaptureFixture[str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "throughput", partial(instances.throughput, rounds=2, seconds=0.1))
    monkeypatch.setattr(bench, "side_by_side", partial(bench.side_by_side, rounds=3, processes=1))
    rows, base = tiny_run.parent / "rows.csv", tiny_run / "baseline"
    command = ("bench", base / "fair", base / "pipeline", "--task", rows, "--instances", "auto", "--format", "json")
    code, out, _ = call(capsys, *command, "--batch-size", "4")
    assert code == 0
    ours, plain = (row["throughput"] for row in json.loads(out))
    assert ours["ratio"] == [1.0, 1.0, 1.0]
    assert all(one["low"] <= one["rows_per_second"] <= one["high"] for one in (ours, plain))
    assert (ours["instances"], ours["threads"], ours["batch_size"]) == (cores.usable_instances(1), 1, 4)
    assert (plain["instances"], plain["threads"], plain["batch_size"]) == (1, cores.usable_instances(1), 1)
    assert [row["drop"]["value"] for row in json.loads(out)] == [0.0, 0.0]


@pytest.mark.slow
def test_limits_that_contradict_the_space_are_refused(capsys: pytest.CaptureFixture[str], tiny_run: Path) -> None:
    assert "contradicts the space" in refused(capsys, "resume", tiny_run, "--max-size", "1kB")
    assert "1kB" not in (tiny_run / "config.resolved.yaml").read_text()  # the run is as it was


@pytest.mark.slow
def test_resuming_adds_trials_and_takes_other_limits(capsys: pytest.CaptureFixture[str], tiny_run: Path) -> None:
    reads = json.loads((tiny_run / "front.json").read_text())["splits"]["test"]["reads"]
    otherwise = ("--sampler", "random", "--workers", "2", "--address", "local")
    code, _, err = call(capsys, "resume", tiny_run, "--trials", "15", "--max-size", "90%", *otherwise)
    assert code == 0, err
    assert read_config(tiny_run).search.sampler == "random"
    front = json.loads((tiny_run / "front.json").read_text())
    assert front["trials"]["complete"] == 15
    assert front["limits"] == {"accuracy_drop": "20pt", "size": "90%"}
    assert front["splits"]["test"]["reads"] == reads + 1
    keys = [line.split(",")[0] for line in (tiny_run / "trials.csv").read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == 15


@pytest.mark.slow
def test_recovered_members_small_vocabularies_and_cascades_come_with_a_run(
    capsys: pytest.CaptureFixture[str], encoder: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(tmp_path / "rows.csv", rows=600)
    (tmp_path / "more.txt").write_text("a warm and funny plot\na grim, stale story\n")
    (tmp_path / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\n"
        "space: {pruning: {ffn_group: 16}, vocabulary: {shares: [0.7], others: gone}}\n"
        "limits: {accuracy_drop: 20pt}\nsearch: {trials: 10, rows: 60, workers: 1}\nrecover: {epochs: 2}\n"
        "verify: {members: 6, rounds: 3, processes: 1, inputs: 10}\nfinetune: {epochs: 4, learning_rate: 3.0e-3}\n"
    )
    shutil.copytree(prepared, tmp_path / "cache")
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    asked = ("--recover", 1, "--cascades", 2, "--unlabeled", tmp_path / "more.txt")
    code, _, err = call(capsys, "search", tmp_path / "run.yaml", "--out", tmp_path / "run", *asked)
    assert code == 0, err
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    singles = [member for member in front["members"] if member["kind"] == "single"]
    assert any(member["decoded"]["embeddings"]["vocabulary"] is not None for member in singles)
    assert all(member["fidelity"]["agreement"] == 1.0 for member in front["members"] if member["verified"])
    trained = [line for line in (tmp_path / "run" / "trials.csv").read_text().splitlines() if ",recovered," in line]
    assert trained
    recovered = [member for member in front["members"] if member["weights"].startswith("recovered:")]
    assert all(member["parents"] for member in recovered)
    pruned = [member for member in singles if "whole_vocabulary_bytes" in member["fidelity"]]
    assert pruned
    assert all(
        member["fidelity"]["whole_vocabulary_bytes"] > member["fidelity"]["predicted_bytes"] for member in pruned
    )
    picks = {pick["name"]: pick["key"] for pick in front["picks"]}
    for cascade in (member for member in front["members"] if member["kind"] == "cascade"):
        assert (cascade["accuracy"]["test"] is not None) == (cascade["key"] == picks.get("cascade"))
        assert len(cascade["stages"]) == len(cascade["parents"]) >= 2
        text = json.dumps({"text": "a fine warm film"})
        (tmp_path / "in.jsonl").write_text(text + "\n")
        assert call(capsys, "predict", tmp_path / "run" / cascade["artifact"], "--file", tmp_path / "in.jsonl")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("others", "name"), [("gone", "vocabulary"), ("shared", "exact_rows")])
def test_a_finished_run_with_a_smaller_word_table_can_be_recovered_later(
    capsys: pytest.CaptureFixture[str],
    encoder: Path,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: str,
    name: str,
) -> None:
    rows = write_rows(tmp_path / "rows.csv", rows=600)
    (tmp_path / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\n"
        f"space: {{pruning: {{ffn_group: 16}}, quantization: false, vocabulary: {{shares: [0.7], others: {others}}}}}\n"
        "search: {trials: 6, rows: 60, workers: 1}\nrecover: {epochs: 1}\n"
        "verify: {members: 3, rounds: 3, processes: 1, inputs: 10}\nfinetune: {epochs: 4, learning_rate: 3.0e-3}\n"
    )
    shutil.copytree(prepared, tmp_path / "cache")
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    code, _, err = call(capsys, "search", tmp_path / "run.yaml", "--out", tmp_path / "run")
    assert code == 0, err
    code, _, err = call(capsys, "resume", tmp_path / "run", "--recover", 1)
    assert code == 0, err
    assert ",recovered," in (tmp_path / "run" / "trials.csv").read_text()
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    fewer = [each for each in front["members"] if (each["decoded"] or {}).get("embeddings", {}).get(name)]
    assert fewer
    assert all(each["fidelity"]["agreement"] == 1.0 for each in fewer if each["verified"])
    folder = next(each["artifact"] for each in fewer if each["verified"])
    assert call(capsys, "predict", tmp_path / "run" / folder, "--text", "a fine warm film")[0] == 0
