"""Every text family through the public path: loaded, ranked, searched, verified, exported and loaded again."""

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from evaluators import latency_model
from tests.test_cli import call
from tests.tiny_models import TEXT_FAMILIES, tiny
from tests.tiny_task import SHORT, write_rows, write_tokenizer

TRIALS = 10
LONGER = SHORT.replace("epochs: 4", "epochs: 12")  # for families that learn slowly from random weights


def write_classifier(family: str, folder: Path) -> Path:
    """A random classifier as its family publishes it, of one class more than the task has."""
    write_tokenizer(folder)
    tiny(family, conformed=False)[0].save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_a_family_is_loaded_ranked_searched_verified_exported_and_loaded_again(
    family: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    for name, value in {"_PROCESSES": 1, "_GROUP": 25, "_INPUTS": 10}.items():  # time is not what is tested here
        monkeypatch.setattr(latency_model, name, value)
    model, rows = write_classifier(family, tmp_path / "model"), write_rows(tmp_path / "rows.csv", rows=400)
    (tmp_path / "run.yaml").write_text(
        f"model: {model}\ntask: {{file: {rows}}}\nspace: {{pruning: {{ffn_group: 16}}}}\n"
        f"search: {{trials: {TRIALS}, rows: 60, workers: 1}}\n{LONGER}"
    )
    code, _, err = call(capsys, "search", tmp_path / "run.yaml", "--out", tmp_path / "run")
    assert code == 0, err

    (checkpoint,) = (tmp_path / "cache" / "finetuned").iterdir()
    with torch.inference_mode():
        assert AutoModelForSequenceClassification.from_pretrained(checkpoint).config.num_labels == 2

    importance = json.loads((tmp_path / "run" / "importance.json").read_text())
    assert all(any(layer) for layer in (*importance["heads"], *importance["neurons"]))

    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert front["trials"]["complete"] >= TRIALS
    assert front["trials"]["failed"] == 0
    verified = [member for member in front["members"] if member["verified"]]
    assert len(verified) >= 2
    assert all(member["fidelity"]["agreement"] == 1.0 for member in verified)
    assert all(abs(m["fidelity"]["predicted_bytes"] / m["size"]["bytes"] - 1) < 0.1 for m in verified)
    assert front["baselines"]["fair"]["accuracy"]["confirm"]["value"] > 0.8

    code, _, err = call(capsys, "select", tmp_path / "run", "--prefer", "accuracy", "--export", tmp_path / "exported")
    assert code == 0, err
    with rows.open(newline="") as file:
        texts, labels = zip(*((row["text"], row["label"]) for row in csv.DictReader(file)), strict=True)
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    code, out, err = call(capsys, "predict", tmp_path / "exported", "--file", tmp_path / "texts.jsonl")
    assert code == 0, err
    answers = [json.loads(line)["label"] for line in out.splitlines()]
    assert sum(map(str.__eq__, answers, labels)) > 0.8 * len(labels)
