"""Models of files through the public path: searched, exported, asked, compared, described, opened by others."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForAudioClassification, AutoModelForImageClassification

from evaluators import latency_model
from evaluators.artifact import EXAMPLE
from tests.test_cli import call
from tests.tiny_files import PITCHES, SIDES, write_image_model, write_images, write_sound_model, write_sounds

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
KINDS = {"vit": IMAGES, "ast": SOUNDS, "wav2vec2": SOUNDS}


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
