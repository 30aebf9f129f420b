"""`select --export`: torch weights that load alone, model cards that the Hub reads, and pushing to it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoTokenizer

from evaluators import artifact, hub
from evaluators.artifact import Artifact
from evaluators.pretrained import save_sliced
from evaluators.pretrained_loader import load
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchPredictor, TorchRuntime
from evaluators.tasks.base import Rows
from search import exporting, front_file
from search.exporting import Export
from search.snippets import snippets
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.design import Member
from spaces.errors import RunError
from tests.example_run import write_front, write_run
from tests.hub_server import serving
from tests.tiny_export import TEXTS, design, export, tokenizer
from tests.tiny_models import FFN, HEADS, tiny
from tests.tiny_task import searched

# Half a layer, a layer that is gone, a layer without any attention; and one without neurons, one of a single head.
CUTS = (
    Pruning((LayerUnits((0, 2), tuple(range(20))), None, LayerUnits((), tuple(range(5, FFN))))),
    Pruning((LayerUnits((0, 1, 2, 3), ()), LayerUnits((), ()), LayerUnits((3,), tuple(range(FFN))))),
)


def sliced(family: str, cut: Pruning) -> Any:
    template = TorchRuntime().template(tiny(family)[0])
    predictor = TorchRuntime().load(template.assemble(Member((cut,))), threads=1)
    assert isinstance(predictor, TorchPredictor)
    return predictor.model


@pytest.mark.parametrize("cut", CUTS, ids=("layer gone", "blocks gone"))
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
def test_torch_weights_are_as_small_as_the_design_and_answer_alike(family: str, cut: Pruning, tmp_path: Path) -> None:
    built, inputs = sliced(family, cut), tiny(family)[1]
    save_sliced(tmp_path, built, cut)
    again = load(tmp_path)
    torch.testing.assert_close(again(**inputs).logits, built(**inputs).logits, atol=1e-5, rtol=0)
    assert sum(each.numel() for each in again.parameters()) == sum(each.numel() for each in built.parameters())


@pytest.mark.parametrize("cut", CUTS, ids=("layer gone", "blocks gone"))
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_configuration_says_what_is_left_of_each_layer(family: str, cut: Pruning, tmp_path: Path) -> None:
    save_sliced(tmp_path, sliced(family, cut), cut)
    config = json.loads((tmp_path / "config.json").read_text())
    kept = [place for place, units in enumerate(cut.layers) if units is not None]
    assert config["kept_layers"] == kept
    assert config.get("num_hidden_layers", config.get("n_layers")) == len(kept)
    for place, units in enumerate(filter(None, cut.layers)):
        said = config["per_layer_config"].get(str(place), {})
        assert ("attention" in said.get("skip", ())) == (not units.heads)
        assert ("mlp" in said.get("skip", ())) == (not units.neurons)
        assert not units.heads or said.get("num_attention_heads", HEADS) == len(units.heads)
        neurons = said.get("intermediate_size", said.get("hidden_dim", FFN))
        assert not units.neurons or neurons == len(units.neurons)


def test_the_loader_and_the_card_s_lines_run_without_this_project(tmp_path: Path) -> None:
    built, folder = sliced("bert", CUTS[0]), tmp_path / "model"
    save_sliced(folder, built, CUTS[0])
    artifact.save_tokenizer(folder, tokenizer(tmp_path), 8)
    (snippet,) = snippets(str(folder), {}, torch=True, pushed=False)
    script = tmp_path / "script.py"
    script.write_text(
        f"{snippet.code}\nprint(logits[0].tolist())\n"
        f"import runpy\nsys.argv = ['load.py', 'A text.']\n"
        f"runpy.run_path({str(folder / 'load.py')!r}, run_name='__main__')\n"
        "assert not {'evaluators', 'search', 'spaces'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", script], cwd="/", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    tokens = AutoTokenizer.from_pretrained(folder)("A text.", truncation=True, return_tensors="pt")
    expected = built(**tokens).logits[0].tolist()
    _, by_snippet, by_script = done.stdout.splitlines()
    assert json.loads(by_snippet) == pytest.approx(expected, abs=1e-5)
    assert list(json.loads(by_script.replace("'", '"')).values()) == pytest.approx(expected, abs=1e-5)


def test_weights_that_are_missing_are_not_taken_for_pruned_ones(tmp_path: Path) -> None:
    model = tiny("bert")[0]
    save_sliced(tmp_path, model, Pruning.identity(TorchRuntime().template(model).shape))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "per_layer_config": {"0": {"skip": ["mlp"]}}}))
    with pytest.raises(ValueError, match=r"config\.json does not say"):
        load(tmp_path)


def test_loaders_cut_texts_where_the_model_was_measured(tmp_path: Path) -> None:
    folder = export(OnnxRuntime(), tmp_path / "model")
    plain = AutoTokenizer.from_pretrained(folder)
    assert plain(TEXTS[3], truncation=True)["input_ids"] == plain(TEXTS[3], truncation=True, max_length=8)["input_ids"]
    assert len(plain(TEXTS[3])["input_ids"]) > 8


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An invented run whose fastest member is exported for real."""
    folder = tmp_path / "run"
    found = write_run(folder)
    member = next(each for each in found["members"] if each["verified"])
    found["members"] = [{**member, "artifact": "models/tiny"}]
    found["picks"] = [{**pick, "key": member["key"]} for pick in found["picks"] if pick["name"] in ("limits", "knee")]
    write_front(folder, found)
    (folder / "models").mkdir()
    export(OnnxRuntime(), folder / "models" / "tiny")
    return folder


def selected(run: Path, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`select --export` in a process of its own: the Hub's client reads its environment when it is imported."""
    command = [sys.executable, "-m", "search.cli", "select", str(run), "--no-limits", "--export", str(out), *options]
    unset = ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    own = {"HF_HOME": str(run.parent / "hub"), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**kept, **own})


def test_a_card_is_what_the_hub_reads(run: Path, tmp_path: Path) -> None:
    done = selected(run, tmp_path / "out", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "out" / "README.md")
    (member,) = front_file.read(run).members
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.library_name == "onnx"
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.metrics == ["accuracy"]
    assert {"paretoformer", "onnx"} <= set(card.data.tags)
    assert card.data.eval_results is not None
    found = {result.dataset_split: result for result in card.data.eval_results}
    assert found.keys() == member.accuracy.keys() - {"search"}
    confirm = found["confirm"]
    assert (confirm.task_type, confirm.dataset_type, confirm.metric_type) == (
        "text-classification",
        "movie-reviews",
        "accuracy",
    )
    assert confirm.metric_value == pytest.approx(member.accuracy["confirm"].value, abs=1e-4)


def test_a_card_says_what_went_what_is_certain_and_how_it_is_run(run: Path, tmp_path: Path) -> None:
    done = selected(run, tmp_path / "out", HF_HUB_OFFLINE="1")
    text = (tmp_path / "out" / "README.md").read_text()
    (member,) = front_file.read(run).members
    assert member.decoded is not None
    layers = [line for line in text.splitlines() if line.startswith(tuple(f"| {place} |" for place in range(6)))]
    assert len(layers) == len(member.decoded["layers"])
    for line, layer in zip(layers, member.decoded["layers"], strict=True):
        assert ("gone" in line) == (layer is None)
        assert layer is None or f"{len(layer['heads'])} of 12 | {layer['ffn']:,} of 1,536" in line
    assert f"paretoformer select {run} --no-limits --export {tmp_path / 'out'}" in text
    assert "certified" in text
    assert "Not checked" in text
    assert (tmp_path / "out" / "example.py").read_text() in text
    (optimum,) = snippets(str(tmp_path / "out"), design(OnnxRuntime()), torch=False, pushed=False)
    assert optimum.code in text
    assert "not verified" not in text.lower()
    assert done.stdout.splitlines()[-1].startswith(f"Wrote {tmp_path / 'out'}.")


def test_a_folder_is_pushed_to_the_hub(run: Path, tmp_path: Path) -> None:
    with serving() as there:
        options = ("--push-to", "someone/tiny", "--private")
        done = selected(run, tmp_path / "out", *options, HF_ENDPOINT=there.endpoint, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert there.repositories["someone/tiny"]["visibility"] == "private"
    assert there.tokens == {"Bearer hf_secret"}
    assert there.files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert f"Pushed to {there.endpoint}/someone/tiny/commit/" in done.stdout
    assert 'from_pretrained("someone/tiny")' in there.files["README.md"].decode()
    assert "hf_secret" not in done.stdout + done.stderr + there.files["README.md"].decode()


@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        (("--push-to", "someone/tiny"), {}, "needs a token"),
        (("--push-to", "some one/tiny"), {"HF_TOKEN": "hf_x"}, "Give ORGANISATION/NAME"),
        (("--private",), {}, "Name one"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, options: Sequence[str], environment: dict[str, str], says: str
) -> None:
    done = selected(run, tmp_path / "out", *options, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("refusal", [(403, "You have no right to write there."), None])
def test_a_push_that_fails_leaves_the_folder_and_says_how_to_go_on(
    run: Path, tmp_path: Path, refusal: tuple[int, str] | None
) -> None:
    with serving() as there:
        there.refusal = refusal
        endpoint = there.endpoint if refusal else "http://127.0.0.1:9"  # nobody listens there
        done = selected(run, tmp_path / "out", "--push-to", "someone/tiny", HF_ENDPOINT=endpoint, HF_TOKEN="hf_x")
    assert done.returncode == (2 if refusal else 1)
    (line,) = done.stderr.splitlines()
    assert (refusal[1] if refusal else "could not be pushed") in line
    assert f"hf upload someone/tiny {tmp_path / 'out'}" in line
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_what_torch_cannot_run_is_refused(run: Path, tmp_path: Path) -> None:
    front = front_file.read(run)
    content = json.loads((run / "front.json").read_text())
    attending, reading, cascade = (json.loads(json.dumps(content["members"][0])) for _ in range(3))
    next(filter(None, attending["decoded"]["layers"]))["attention"] = "hard@8"
    reading["decoded"]["compression"] = {"level": 0.5}
    cascade |= {"kind": "cascade", "decoded": None}
    for member, says in ((attending, "hard@8"), (reading, "reads 50%"), (cascade, "is a cascade")):
        asked = type(front.members[0]).from_json(member)
        with pytest.raises(RunError, match=says):
            exporting.export(run, front, asked, {}, Export(tmp_path / "out", "paretoformer select", torch=True))
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_base_model_s_licence_is_its_card_s(tmp_path: Path) -> None:
    assert hub.base(str(tmp_path)) == hub.Base()
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert hub.base(str(tmp_path)) == hub.Base(None, "apache-2.0")
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert hub.base(str(tmp_path)) == hub.Base()
    assert hub.base("no/such-folder") == hub.Base()  # looks like an id, and was never loaded from the Hub


@pytest.mark.slow
def test_every_member_of_a_run_is_written_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    run = searched(tmp_path, vocabulary={"others": "gone", "shares": [0.6]})
    front, texts, exact = front_file.read(run), ("a fine warm film", "dull grim plot"), 0
    for member in front.members:
        if not member.verified or member.decoded is None:
            continue
        out, measured = tmp_path / member.key, Artifact.open(run / str(member.artifact))
        (said,) = exporting.export(run, front, member, {}, Export(out, "paretoformer select", torch=True))
        assert "weights of 32 bits" in said
        assert "of 90 confirm rows" in said
        assert "model-index" not in (out / "README.md").read_text()  # these weights were not measured
        model, reader = load(out), AutoTokenizer.from_pretrained(out)
        assert len(reader) == model.config.vocab_size == (member.decoded["embeddings"].get("vocabulary") or len(reader))
        ours = [model(**reader(text, truncation=True, return_tensors="pt")).logits[0].tolist() for text in texts]
        if _widths(member.decoded) == {32}:
            np.testing.assert_allclose(ours, measured.logits(measured.encode(Rows(texts, (0, 0)))), atol=1e-4)
            exact += 1
    assert exact


def _widths(decoded: Any) -> set[int]:
    layers = [width for layer in filter(None, decoded["layers"]) for width in layer["bits"].values()]
    return {width for width in (*layers, decoded["embeddings"]["bits"], decoded["head"]["bits"]) if width is not None}
