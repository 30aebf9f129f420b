"""Models of files through the public path: searched, exported, asked, compared, described, opened by others."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from evaluators import latency_model
from evaluators.artifact import EXAMPLE
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from tests.test_cli import call
from tests.test_loaders import exported_of_files
from tests.tiny_export import export
from tests.tiny_files import PITCHES, SIDES, write_image_model, write_images, write_sound_model, write_sounds
from tests.tiny_task import write_encoder, write_rows

# Time is not what is tested here.
SHORT = """\
space: {pruning: {ffn_group: 16}}
search: {trials: 10, rows: 50, workers: 1}
verify: {members: 3, rounds: 3, processes: 1, inputs: 10}
finetune: {epochs: 12, learning_rate: 3.0e-3}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    for name, value in {"_PROCESSES": 1, "_GROUP": 25, "_INPUTS": 10}.items():
        monkeypatch.setattr(latency_model, name, value)


@dataclass(frozen=True)
class Kind:
    """Files by class, a model with other classes, and what others call it."""

    classes: tuple[str, ...]
    suffix: str
    write_rows: Callable[[Path], Path]
    write_model: Callable[[Path, str], Path]
    auto: Any
    pipeline: str


IMAGES = Kind(SIDES, ".png", write_images, write_image_model, AutoModelForImageClassification, "image-classification")
SOUNDS = Kind(PITCHES, ".wav", write_sounds, write_sound_model, AutoModelForAudioClassification, "audio-classification")
KINDS = {"vit": IMAGES, "wav2vec2": SOUNDS}  # AST: tests of export, importance and loaders


@pytest.mark.slow
@pytest.mark.parametrize("family", KINDS)
def test_a_family_goes_the_whole_path(family: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kind, run, exported = KINDS[family], tmp_path / "run", tmp_path / "exported"
    model, data = kind.write_model(tmp_path / "model", family), kind.write_rows(tmp_path / "data")
    (tmp_path / "run.yaml").write_text(SHORT)

    def done(*arguments: object) -> str:
        code, out, err = call(capsys, *arguments)
        assert code == 0, err
        return out

    done("search", tmp_path / "run.yaml", "--model", model, "--data", data, "--out", run)
    (checkpoint,) = (tmp_path / "cache" / "finetuned").iterdir()
    assert kind.auto.from_pretrained(checkpoint).config.id2label == dict(enumerate(kind.classes))
    importance = json.loads((run / "importance.json").read_text())
    assert all(any(layer) for layer in (*importance["heads"], *importance["neurons"]))
    front = json.loads((run / "front.json").read_text())
    assert (front["trials"]["complete"], front["trials"]["failed"]) == (10, 0)
    assert front["baselines"].keys() == {"fair", "one_liner", "pipeline"}
    assert front["baselines"]["fair"]["accuracy"]["confirm"]["value"] > 0.8
    verified = [member for member in front["members"] if member["verified"]]
    assert len(verified) >= 2
    assert all(member["fidelity"]["agreement"] == 1.0 for member in verified)
    assert all(member["latency"]["bands"] == [] for member in verified)  # nobody knows how many tokens a row has

    done("select", run, "--prefer", "accuracy", "--export", exported)
    card = (exported / "README.md").read_text()
    assert f"pipeline_tag: {kind.pipeline}\n" in card
    assert f"predict {exported} --file" in card
    file = next(data.rglob(f"*{kind.suffix}"))
    answer = json.loads(done("predict", exported, "--file", file))
    assert answer["label"] in kind.classes
    listed = data / "rows.jsonl"
    listed.write_text("".join(json.dumps({"file": str(each.relative_to(data))}) + "\n" for each in (file, file)))
    assert [json.loads(line) for line in done("predict", exported, "--file", listed).splitlines()] == [answer] * 2
    listed.unlink()
    said = subprocess.run(
        [sys.executable, "-I", exported / EXAMPLE, file], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (said[0], float(said[1])) == (answer["label"], pytest.approx(answer["score"], abs=1e-3))

    compared = json.loads(done("diff", run / "baseline" / "pipeline", exported, "--task", data, "--format", "json"))
    assert compared["rows"].startswith("36 test rows of data")
    everything = json.loads(done("diff", run / "baseline" / "fair", exported, "--data", data, "--format", "json"))
    assert everything["whole"]["n"] == 240
    rows = json.loads(done("bench", exported, run / "baseline" / "pipeline", "--task", data, "--format", "json"))
    assert [row["accuracy"]["n"] for row in rows] == [36, 36]
    assert rows[0]["drop"]["value"] == 0.0
    assert "report.html" in done("report", run)


@pytest.mark.slow
def test_without_labels_answers_stay_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, folder = write_image_model(tmp_path / "model", classes=("a", "b", "c")), tmp_path / "flat"
    folder.mkdir()
    for file in write_images(tmp_path / "data", rows=120).rglob("*.png"):
        file.rename(folder / file.name)
    (tmp_path / "run.yaml").write_text(SHORT)
    asked = ("--model", model, "--data", folder, "--max-disagreement", "20%", "--out", tmp_path / "run")
    code, _, err = call(capsys, "search", tmp_path / "run.yaml", *asked)
    assert code in (0, 3), err
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert front["baselines"]["fair"]["accuracy"]["confirm"]["value"] == 1.0
    assert [member for member in front["members"] if member["verified"]]


@pytest.mark.slow
def test_digits_of_scikit_learn_are_learnt_searched_and_picked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """1,797 written digits of 8 x 8 pixels; an untrained vision transformer of 2 layers gets 0.9 of them right."""
    digits = load_digits()
    for row, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        file = tmp_path / "digits" / str(label) / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15.9 * values).astype(np.uint8)).save(file)
    torch.manual_seed(0)
    sizes = {"image_size": 8, "patch_size": 2, "num_channels": 1, "hidden_size": 64, "intermediate_size": 128}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ViTForImageClassification(ViTConfig(**sizes, **still, num_hidden_layers=2, num_attention_heads=4)).save_pretrained(
        tmp_path / "model"
    )
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "run.yaml").write_text(SHORT.replace("epochs: 12", "epochs: 28"))
    asked = ("--model", tmp_path / "model", "--data", tmp_path / "digits", "--out", tmp_path / "run")
    code, _, err = call(capsys, "search", tmp_path / "run.yaml", *asked)
    assert code == 0, err
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert front["baselines"]["fair"]["accuracy"]["confirm"]["value"] >= 0.9
    code, out, err = call(capsys, "select", tmp_path / "run", "--prefer", "accuracy", "--format", "json")
    assert code == 0, err
    assert json.loads(out)["accuracy"]["confirm"]["value"] >= 0.88


@pytest.mark.parametrize("rows", ["images", "texts"])
def test_models_of_other_rows_are_refused_in_one_line(
    rows: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if rows == "images":
        model, data = write_encoder(tmp_path / "model"), write_images(tmp_path / "rows", rows=60)
    else:
        model, data = write_image_model(tmp_path / "model"), write_rows(tmp_path / "rows.csv")
    code, _, err = call(capsys, "search", "--model", model, "--task", data, "--out", tmp_path / "run")
    assert code == 2
    own, asked = ("text", "image") if rows == "images" else ("image", "text")
    assert f"reads {own} rows, expected a model of {asked} rows" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("medium", "asked", "message"),
    [
        ("image", ("--text", "hello"), "reads files of image, found a text. Give --file."),
        ("image", ("--file", "rows.jsonl"), 'line 1: expected {"file": "..."}, found'),
        ("image", ("--file", "gone.png"), "There is no file gone.png. Give the path of an image."),
        ("image", ("--file", "tone.wav"), "reads image rows, expected a model of sound rows"),
        ("text", ("--file", "gone.png"), "reads text rows, expected a model of image rows"),
    ],
)
def test_what_a_model_cannot_read_is_refused_in_one_line(
    medium: str,
    asked: tuple[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "hello"}')
    model = exported_of_files(tmp_path, "vit", 32) if medium == "image" else export(OnnxRuntime(), tmp_path / "text")
    code, out, err = call(capsys, "predict", model, *asked)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
