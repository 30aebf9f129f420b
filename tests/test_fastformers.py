"""The FastFormers ladder: its table, its record, its models' parts, and the whole of it on a tiny task."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evaluators.anatomy import Anatomy, linear
from evaluators.answering import run
from evaluators.first_order import first_order_importance
from evaluators.ladder import worker
from evaluators.ladder.climb import Finished
from evaluators.ladder.importance import importance_of_both_matrices
from evaluators.ladder.padding import padded
from evaluators.ladder.steps import BASELINES, STEPS, Settings
from evaluators.pool import Setup
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchPredictor
from evaluators.sensitivity import Check, parts
from evaluators.tasks.base import Encoded, Rows
from evaluators.tasks.linear import LinearBaseline
from search import cli, fastformers
from search import run as commands
from search.config import RunConfig
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.errors import RunError
from spaces.target import Target
from tests.tiny_models import tiny
from tests.tiny_task import write_encoder, write_rows


def climbed(samples: dict[str, list[float]]) -> dict[str, Any]:
    """A ladder of invented figures: rows per second by step and turn."""

    def row(name: str, rate: list[float], index: int) -> dict[str, Any]:
        return {
            "step": name,
            "change": "something",
            "folder": name,
            "accuracy": {"value": 0.9, "ci95": [0.88, 0.92], "n": 100, "drop": {"value": 0.01, "ci95": [-0.01, 0.03]}},
            "latency": {"mean_ms": 5.0 if name == "instances" else 8.0 - index, "p95_ms": 9.0},
            "throughput": {"instances": 2, "threads": 1, "samples": rate},
            "size": {"bytes": 2_000_000, "tokenizer_bytes": 5},
            "notes": {"words": f"words of {name}"},
        }

    rows = [row(step.name, samples.get(step.name, [10.0, 10.0]), index) for index, step in enumerate(STEPS)]
    return {
        "identity": {"model": "minilm", "task": "movie-reviews", "seed": 0},
        "machine": {"processor": "a processor", "cores": 2},
        "steps": rows,
        "baselines": [row(step.name, [20.0, 20.0], 0) for step in BASELINES],
    }


def test_factors_are_ratios_of_measured_medians_and_costs_follow_from_them() -> None:
    samples = {step.name: [10.0, 20.0] for step in STEPS} | {"dynamic": [40.0, 40.0], "pruned further": [60.0, 120.0]}
    found = fastformers.document(climbed(samples), price_per_hour=0.36)
    by_name = {row["step"]: row for row in found["steps"]}
    assert by_name["padded"]["factor"] == {"previous": None, "first": [1.0, 1.0, 1.0]}
    assert by_name["dynamic"]["factor"]["previous"] == pytest.approx([40 / 15, 2.0, 4.0])
    assert by_name["pruned further"]["factor"]["previous"] == pytest.approx([6.0, 6.0, 6.0])
    assert found["totals"]["over_padded"] == pytest.approx([6.0, 6.0, 6.0])
    assert found["totals"]["over_dynamic"] == pytest.approx([90 / 40, 1.5, 3.0])
    # 0.36 dollars an hour are 0.0001 a second: 40 rows cost that much, so a million cost 2.5.
    assert by_name["dynamic"]["cost_per_million"] == pytest.approx(2.5)


def test_the_table_has_every_row_and_says_where_a_step_changes_nothing() -> None:
    text = fastformers.markdown(fastformers.document(climbed({}), price_per_hour=0.2))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [
        "step",
        *(step.name for step in STEPS),
        "step",
        *(step.name for step in BASELINES),
    ]
    assert "test rows were not read" in text
    served = next(line for line in rows if line.startswith("| instances"))
    assert "233.9" in next(line for line in rows if line.startswith("| pruned further"))
    assert "2 x 1 thread |" in served


def test_a_finished_step_is_read_back_and_another_ladder_is_refused(tmp_path: Path) -> None:
    path, calls = tmp_path / "steps.json", list[str]()

    def work() -> dict[str, Any]:
        calls.append("done")
        return {"figure": 1}

    assert Finished(path, {"seed": 0}).once("int8", work) == {"figure": 1}
    assert Finished(path, {"seed": 0}).once("int8", work) == {"figure": 1}
    assert calls == ["done"]
    with pytest.raises(RunError, match="other seed"):
        Finished(path, {"seed": 1})


def rows_of(inputs: dict[str, torch.Tensor], labels: tuple[int, ...] = ()) -> Encoded:
    """A padded batch as unpadded rows."""
    lengths = inputs["attention_mask"].sum(1).tolist()
    rows = tuple(
        {name: values[row, :length].numpy() for name, values in inputs.items()} for row, length in enumerate(lengths)
    )
    return Encoded(rows, labels or (0,) * len(rows))


def test_padding_changes_lengths_and_nothing_else() -> None:
    model, inputs = tiny("bert")
    rows = rows_of(inputs)
    filled = padded(rows, 12)
    assert set(filled.lengths) == {12}
    assert [int(row["attention_mask"].sum()) for row in filled.inputs] == list(rows.lengths)
    predictor = TorchPredictor(model, torch.device("cpu"))
    np.testing.assert_allclose(run(predictor, filled, 2), run(predictor, rows, 1), atol=1e-5)


def test_a_neuron_counts_its_column_of_the_second_matrix() -> None:
    model, inputs = tiny("bert")
    rows = rows_of(inputs, (0, 1, 2, 0, 1))  # one batch, so the sum over batches has one term
    both, first = importance_of_both_matrices(model, rows), first_order_importance(model, rows)
    assert both.heads == first.heads
    layers = [linear(model, part.ffn_out) for part in Anatomy.of(model).layers]
    (batch,) = rows.batches(5)
    logits = model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits
    loss = cross_entropy(logits, torch.tensor(rows.labels))
    gradients = torch.autograd.grad(loss, [layer.weight for layer in layers])
    for index, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        expected = torch.tensor(first.neurons[index]) + (layer.weight * gradient).sum(0).abs()  # (F,)
        torch.testing.assert_close(torch.tensor(both.neurons[index]), expected.detach(), rtol=1e-4, atol=1e-6)


def check(model: Any, rows: Encoded, bearable: float) -> Check:
    runtime = OnnxRuntime()
    template = runtime.template(model)
    return Check(runtime, template, Pruning.identity(template.shape), rows, Target(), bearable=bearable)


def quiet(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_parts_that_do_not_bear_few_bits_stay_wide() -> None:
    model, inputs = tiny("bert")
    with torch.no_grad():  # a neuron that nothing reads, but whose size decides how all the others are rounded
        parts_of = Anatomy.of(model).layers[1]
        linear(model, parts_of.ffn_in).bias[0] = 1e5
        linear(model, parts_of.ffn_out).weight[:, 0] = 0
    found = check(model, rows_of(inputs), bearable=0.05).find(quiet)
    assert found.wider == ("1.ffn",)
    assert found.alone["1.ffn"] == max(found.alone.values())
    assert found.quantization.layers[1] is not None
    assert (found.quantization.layers[1].attention, found.quantization.layers[1].ffn) == (8, 32)


def test_what_is_bearable_decides_how_much_is_narrow() -> None:
    model, inputs = tiny("bert")
    template_shape = Anatomy.of(model).shape
    all_wide = check(model, rows_of(inputs), bearable=-1).find(quiet)
    assert all_wide.wider == parts(template_shape)
    assert all_wide.together == 0
    all_narrow = check(model, rows_of(inputs), bearable=float("inf")).find(quiet)
    assert all_narrow.wider == ()
    assert all_narrow.quantization == Quantization.uniform(template_shape, 8)
    assert all_narrow.together > 0


def test_the_ladders_instances_answer_like_their_models(tmp_path: Path) -> None:
    texts = ("a fine warm film", "dull grim plot", "the story with cast")
    LinearBaseline.fit(Rows(texts, (1, 0, 1))).save(tmp_path / "linear")
    opened = worker.load(Setup(str(tmp_path / "linear")))
    expected = LinearBaseline.load(tmp_path / "linear").logits(texts)
    np.testing.assert_array_equal(opened.of_texts(texts, 1), expected)
    np.testing.assert_array_equal(opened.keep(texts)([2, 0], 1), expected[[2, 0]])
    assert len(opened.classes) == 2

    checkpoint = write_encoder(tmp_path / "encoder")
    short, full = (worker.load(Setup(str(checkpoint), max_length=length)) for length in (12, 40))
    assert len(full.classes) == 5
    np.testing.assert_allclose(short.of_texts(texts, 1), full.keep(texts)(range(3), 2), atol=1e-5)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole ladder of a tiny encoder on 400 rows."""
    folder = tmp_path_factory.mktemp("ladder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        commands.fastformers(*order(folder))
    return folder


def order(folder: Path) -> tuple[RunConfig, Path, Settings, float]:
    """What to climb, the same every time."""
    model, rows = folder / "encoder", folder / "rows.csv"
    if not model.exists():
        write_encoder(model)
        write_rows(rows)
    asked = {
        "model": str(model),
        "task": str(rows),
        "finetune": {"epochs": 4, "learning_rate": 3e-3},
        "verify": {"inputs": 20},
    }
    quick = Settings(epochs=2, learning_rate=3e-3, rounds=1, processes=1, turns=1, seconds=0.05)
    return RunConfig.parse(asked), folder / "ladder", quick, 0.2


@pytest.mark.slow
def test_every_step_is_built_and_measured(ladder: Path) -> None:
    found = json.loads((ladder / "ladder" / "ladder.json").read_text())
    assert [row["step"] for row in found["steps"]] == [step.name for step in STEPS]
    assert [row["step"] for row in found["baselines"]] == [step.name for step in BASELINES]
    for row in [*found["steps"], *found["baselines"]]:
        assert 0 <= row["accuracy"]["value"] <= 1
        assert row["latency"]["mean_ms"] > 0
        assert row["throughput"]["rows_per_second"] > 0
        assert row["cost_per_million"] > 0
        assert row["size"]["bytes"] > 0
        assert (ladder / "ladder" / row["folder"]).is_dir()
    rows = {row["step"]: row for row in found["steps"]}
    assert rows["padded"]["accuracy"] == rows["dynamic"]["accuracy"]
    assert rows["dynamic"]["accuracy"]["drop"]["value"] == 0
    assert rows["int8"]["latency"] == rows["instances"]["latency"]
    assert rows["distilled"]["notes"]["words"] == "the first 1 of 2 layers"
    assert rows["pruned"]["notes"]["words"].startswith("3 of 4 heads, 48 of 64 neurons")
    assert rows["pruned further"]["notes"]["words"].startswith("3 of 4 heads, 32 of 64 neurons")
    assert rows["int8"]["size"]["bytes"] > rows["pruned"]["size"]["bytes"] > rows["pruned further"]["size"]["bytes"]
    assert (ladder / "ladder" / "ladder.md").read_text().count("\n| ") >= len(STEPS) + len(BASELINES)


@pytest.mark.slow
def test_the_same_ladder_is_read_back_and_another_is_refused(ladder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out, settings, price = order(ladder)
    before = json.loads((out / "ladder.json").read_text())
    for name in ("distill", "ensure_finetuned", "artifact"):
        monkeypatch.delattr(f"evaluators.ladder.models.{name}")
    again = commands.fastformers(config, out, settings, 2 * price)
    assert [row["throughput"] for row in again["steps"]] == [row["throughput"] for row in before["steps"]]
    assert again["steps"][0]["cost_per_million"] == pytest.approx(2 * before["steps"][0]["cost_per_million"])
    with pytest.raises(RunError, match="other settings"):
        commands.fastformers(config, out, Settings(epochs=1), price)


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "something").touch()
    arguments = ["recipe", "fastformers", "--model", "minilm", "--task", "movie-reviews", "--out", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["paretoformer", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert left.value.code == 2
    assert "is not empty" in capsys.readouterr().err


def test_help_has_an_example() -> None:
    assert all("Example: paretoformer recipe" in (command.epilog or "") for command in cli.recipes.registered_commands)
