"""Exported models where people load them: optimum, sentence-transformers, plain onnxruntime; same answers as here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from evaluators import artifact
from evaluators.models import load_classifier
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.embeddings import EMBEDDINGS
from evaluators.problems.value import Regression
from evaluators.problems.words import TokenClassification
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Rows
from evaluators.transforms.base import build
from search.snippets import snippets
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.medium import IMAGE, SOUND
from tests import loaders
from tests.benchmarks.peer_environments import ensure_environment, run
from tests.tiny_files import image, write_image_model, write_images, write_sound_model, write_sounds
from tests.tiny_models import IMAGE_FAMILIES
from tests.tiny_task import GOOD, write_encoder

TEXTS = ["warm funny film", "the plot", "a dull cold scene with a story and the very empty cast"]
NAMES = TokenClassification(("O", "B-per", "I-per"), words=3)
PAIRS = [("warm film", "dull plot"), ("a story", "the story"), (" ".join(GOOD), "scene")]


def exported(folder: Path, problem: Any, classes: tuple[str, ...], bits: int, *, pairs: bool = False) -> Path:
    """A tiny model of one problem, cut to a width, as `select --export` writes it."""
    encoder = write_encoder(folder / "encoder")
    model, tokenizer = load_classifier(str(encoder), classes, problem)
    template = OnnxRuntime().template(model, pairs=pairs)
    design = {"problem": problem.name, "pairs": pairs}
    return _written(folder / "model", template, model, tokenizer, bits, {"classes": list(classes), **design})


def exported_of_files(folder: Path, family: str, bits: int) -> Path:
    """The same of a model of images or sounds."""
    medium = IMAGE if family in IMAGE_FAMILIES else SOUND
    write = write_image_model if medium == IMAGE else write_sound_model
    model, reader = load_classifier(str(write(folder / "original", family)), ("bad", "fair", "good"))
    template = OnnxRuntime().template(model)
    design = {"classes": ["bad", "fair", "good"], "medium": medium.name}
    return _written(folder / "model", template, model, reader, bits, design)


def _written(folder: Path, template: Any, model: Any, tokenizer: Any, bits: int, design: dict[str, Any]) -> Path:
    artifact.write(
        folder,
        model_bytes=template.assemble(Member((Quantization.uniform(template.shape, bits),))),
        filename=OnnxRuntime.filename,
        tokenizer=tokenizer,
        model_config=model.config,
        design={"runtime": OnnxRuntime.name, "filename": OnnxRuntime.filename, "max_length": 32, **design},
    )
    return folder


def files_of(folder: Path, family: str) -> list[str]:
    """Some files that models of a family read."""
    images = family in IMAGE_FAMILIES
    found = write_images(folder, rows=3) if images else write_sounds(folder, rows=3)
    return sorted(str(path) for path in found.rglob("*.*"))


def own(folder: Path, texts: list[Any]) -> np.ndarray:
    model = artifact.Artifact.open(folder)
    return model.logits(model.encode(Rows(tuple(texts), ())))


def theirs(loader: str, folder: Path, texts: list[Any]) -> np.ndarray:
    questions = folder.parent / "questions.json"
    questions.write_text(json.dumps(texts))
    python = ensure_environment("loaders", print)
    return np.array(json.loads(run([str(python), loaders.__file__, loader, str(folder), str(questions)])))


@pytest.mark.data
@pytest.mark.slow
class TestLoaders:
    @pytest.mark.parametrize("bits", [32, 8, 4])
    def test_optimum_answers_the_same(self, tmp_path: Path, bits: int) -> None:
        folder = exported(tmp_path, CLASSIFICATION, ("bad", "fair", "good"), bits)
        np.testing.assert_allclose(theirs("optimum", folder, TEXTS), own(folder, TEXTS), atol=1e-5)

    def test_optimum_reads_pairs(self, tmp_path: Path) -> None:
        folder = exported(tmp_path, CLASSIFICATION, ("no", "yes"), 32, pairs=True)
        np.testing.assert_allclose(theirs("optimum", folder, list(PAIRS)), own(folder, list(PAIRS)), atol=1e-5)

    def test_optimum_labels_words(self, tmp_path: Path) -> None:
        folder = exported(tmp_path, NAMES, NAMES.classes, 32)
        (found,) = theirs("optimum_of_words", folder, TEXTS[:1])
        np.testing.assert_allclose(found[1:-1], own(folder, TEXTS[:1])[0], atol=1e-5)  # each word is one token

    @pytest.mark.parametrize("bits", [32, 8])
    def test_sentence_transformers_gives_the_same_vectors(self, tmp_path: Path, bits: int) -> None:
        folder = exported(tmp_path, EMBEDDINGS, (), bits)
        np.testing.assert_allclose(theirs("sentence_transformers", folder, TEXTS), own(folder, TEXTS), atol=1e-5)

    def test_a_reranker_scores_pairs_the_same_as_a_cross_encoder(self, tmp_path: Path) -> None:
        folder = exported(tmp_path, Regression(), ("value",), 32, pairs=True)
        scores = theirs("cross_encoder", folder, list(PAIRS))
        np.testing.assert_allclose(scores, own(folder, list(PAIRS))[:, 0], atol=1e-5)

    @pytest.mark.parametrize(
        ("kind", "family", "bits"),
        [("images", "vit", 32), ("images", "deit", 8), ("sounds", "ast", 32), ("sounds", "wav2vec2", 4)],
    )
    def test_optimum_reads_images_and_sounds(self, tmp_path: Path, kind: str, family: str, bits: int) -> None:
        folder, files = exported_of_files(tmp_path, family, bits), files_of(tmp_path / "files", family)
        reader = artifact.Artifact.open(folder).tokenizer
        rows = [values.tolist() for file in files for values in reader(file).values()]
        np.testing.assert_allclose(theirs(f"optimum_of_{kind}", folder, rows), own(folder, files), atol=1e-5)

    @pytest.mark.parametrize("kind", ["texts", "pairs", "words", "embeddings"])
    def test_the_lines_of_the_card_run_as_they_are(self, tmp_path: Path, kind: str) -> None:
        problem: Any = {"embeddings": EMBEDDINGS, "words": NAMES}.get(kind, CLASSIFICATION)
        classes = {"embeddings": (), "words": NAMES.classes}.get(kind, ("no", "yes"))
        folder = exported(tmp_path, problem, classes, 32, pairs=kind == "pairs")
        text: Any = ("A text.", "Another one.") if kind == "pairs" else "A text."
        design = json.loads((folder / "design.json").read_text())
        lines = snippets(str(folder), design, torch=False, pushed=False)
        assert len(lines) == (2 if kind == "pairs" else 1)
        for snippet in lines:
            script = tmp_path / "script.py"
            left = "vectors" if kind == "embeddings" else "logits"
            script.write_text(f"{snippet.code}\nimport json\nprint(json.dumps({left}.tolist()))")
            printed = run([str(ensure_environment("loaders", print)), str(script)]).splitlines()[-1]
            found = np.array(json.loads(printed))
            if kind == "words":
                found = found[:, 1:3]  # behind the first special token, the words' first tokens
            np.testing.assert_allclose(found, own(folder, [text]), atol=1e-5, err_msg=snippet.loader)


def test_vectors_are_those_of_the_encoder_with_its_pooling(tmp_path: Path) -> None:
    """Against the mean over tokens, written out."""
    folder = exported(tmp_path, EMBEDDINGS, (), 32)
    encoder = BertForSequenceClassification.from_pretrained(tmp_path / "encoder").bert.eval()
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS[2], return_tensors="pt")
    states = encoder(**tokens).last_hidden_state[0]
    expected = (states.mean(0) / states.mean(0).norm()).detach().numpy()
    np.testing.assert_allclose(own(folder, TEXTS[2:])[0], expected, atol=1e-5)


@pytest.mark.parametrize("gone", [(), (0,), (1,), (0, 1)])
def test_states_are_those_of_the_last_layer_that_stays(tmp_path: Path, gone: tuple[int, ...]) -> None:
    """Against torch, cut alike; whatever layers go."""
    model, tokenizer = load_classifier(str(write_encoder(tmp_path / "encoder")), (), EMBEDDINGS)
    template = OnnxRuntime().template(model)
    whole = LayerUnits(tuple(range(template.shape.heads)), tuple(range(template.shape.ffn)))
    pruning = Pruning(tuple(None if layer in gone else whole for layer in range(template.shape.layers)))
    session = onnxruntime.InferenceSession(template.assemble(Member((pruning,))))
    tokens = tokenizer(TEXTS, padding=True, return_tensors="np")
    inputs = {entry.name: tokens[entry.name] for entry in session.get_inputs()}
    vectors, states = session.run(["logits", "last_hidden_state"], inputs)
    cut = build(pruning, model)
    expected = cut(**{name: torch.from_numpy(values) for name, values in inputs.items()})
    np.testing.assert_allclose(vectors, expected.logits.detach(), atol=1e-5)
    np.testing.assert_allclose(states, expected.hidden_states[-1].detach(), atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "wav2vec2"])
def test_the_example_reads_files_as_predict_does(tmp_path: Path, family: str) -> None:
    folder, files = exported_of_files(tmp_path, family, 8), files_of(tmp_path / "files", family)
    command = [sys.executable, "-I", str(folder / artifact.EXAMPLE), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [answer for file in files for answer in artifact.Artifact.open(folder).predict([file])]
    assert done.stdout.splitlines() == [f"{answer.label} {answer.score:.4f}" for answer in answers]


# Stands for optimum, in whose environment there is neither Pillow nor soundfile; TestLoaders has the real one.
OPTIMUM = """
import onnxruntime, torch, types

class Model:
    @classmethod
    def from_pretrained(cls, folder):
        model = cls()
        model.session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
        return model

    def __call__(self, **inputs):
        asked = {name: values.numpy() for name, values in inputs.items()}
        return types.SimpleNamespace(logits=torch.tensor(self.session.run(["logits"], asked)[0]))

ORTModelForImageClassification = ORTModelForAudioClassification = Model
"""


@pytest.mark.parametrize("family", ["vit", "ast"])
def test_the_lines_of_the_card_read_files_as_predict_does(tmp_path: Path, family: str) -> None:
    folder = exported_of_files(tmp_path, family, 32)
    (snippet,) = snippets(str(folder), json.loads((folder / "design.json").read_text()), torch=False, pushed=False)
    if family == "vit":
        file = tmp_path / "image.png"
        image(0, np.random.default_rng(0)).save(file)
    else:
        file = tmp_path / "sound.wav"
        soundfile.write(file, np.random.default_rng(0).normal(scale=0.1, size=4000), 16000)
    (tmp_path / "optimum").mkdir()
    (tmp_path / "optimum" / "onnxruntime.py").write_text(OPTIMUM)
    (tmp_path / "script.py").write_text(f"{snippet.code}\nimport json\nprint(json.dumps(logits.tolist()))")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), own(folder, [str(file)]), atol=1e-5)


@pytest.mark.parametrize("kind", ["classification", "pairs", "multi-label", "regression", "words", "embeddings"])
def test_the_example_beside_a_model_answers_as_predict_does(tmp_path: Path, kind: str) -> None:
    problem: Any = {"regression": Regression(), "embeddings": EMBEDDINGS, "words": NAMES}.get(kind, CLASSIFICATION)
    classes = {"regression": ("value",), "embeddings": (), "words": NAMES.classes}.get(kind, ("bad", "fair", "good"))
    folder = exported(tmp_path, problem, classes, 32, pairs=kind == "pairs")
    asked = list(PAIRS[0]) if kind == "pairs" else [TEXTS[0]]
    done = subprocess.run(
        [sys.executable, "-I", str(folder / artifact.EXAMPLE), *asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = own(folder, [tuple(asked)] if kind == "pairs" else asked)[0]
    if kind == "words":
        labels = [NAMES.classes[index] for index in answers.argmax(-1)]
        expected = [f"{word} {label}" for word, label in zip(TEXTS[0].split(), labels, strict=True)]
        assert done.stdout.splitlines() == expected
    elif kind in ("regression", "embeddings"):
        said = np.array([float(part.strip("[],")) for part in done.stdout.split() if part.strip("[],")][: len(answers)])
        np.testing.assert_allclose(said, answers, atol=1e-3)
    else:
        assert done.stdout.split()[0] == classes[int(answers.argmax())]
