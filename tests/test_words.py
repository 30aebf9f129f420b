"""Labels of words: what is an entity, which token stands for a word, how files are read, and a whole run."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from transformers import BertConfig, BertForTokenClassification, pipeline

from evaluators.artifact import Artifact
from evaluators.exported import answers_of
from evaluators.problems.words import IGNORED, OF_WORDS, TokenClassification
from evaluators.tasks.base import Rows, encode
from evaluators.tasks.columns import labelled_texts
from evaluators.training.schedule import outputs_of
from search import front_file, run, wiring
from search.config import RunConfig
from spaces.errors import DataError
from spaces.target import Target
from tests.tiny_export import tokenizer as byte_tokenizer
from tests.tiny_task import BAD, GOOD, PLAIN, SHORT, VOCABULARY, write_tokenizer

CLASSES = ("O", "B-org", "I-org", "B-per", "I-per", "date")


def entities(labels: Sequence[int]) -> set[tuple[str, int, int]]:
    """(kind, first, last) word by word, as conlleval reads them."""
    found, kind, start = set(), "", 0
    for place, label in enumerate([*labels, 0]):
        name = "O" if label < 0 else CLASSES[label]
        inside = name.startswith("I-") and name[2:] == kind
        if kind and not inside:
            found.add((kind, start, place))
            kind = ""
        if name != "O" and not inside:
            kind, start = name.removeprefix("B-").removeprefix("I-"), place
    return found


def test_f1_is_that_of_entities_found_word_by_word() -> None:
    rng = np.random.default_rng(0)
    problem = TokenClassification(CLASSES, 9)
    for _ in range(100):
        labels = rng.choice(len(CLASSES), (8, 9), p=(0.3, 0.2, 0.2, 0.1, 0.1, 0.1))
        predictions = np.where(rng.random(labels.shape) < 0.3, rng.choice(len(CLASSES), labels.shape), labels)
        lengths = rng.integers(1, 10, 8)
        labels[np.arange(9) >= lengths[:, None]] = IGNORED
        pairs = [
            (entities(true), entities(np.where(true < 0, 0, said)))
            for true, said in zip(labels, predictions, strict=True)
        ]
        both = sum(len(true & said) for true, said in pairs)
        expected = 2 * both / sum(len(true) + len(said) for true, said in pairs)
        assert problem.metrics["f1"](labels, predictions) == pytest.approx(expected)


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    problem = TokenClassification(CLASSES, 3)
    nothing = np.zeros((2, 3), np.int64)
    assert problem.metrics["f1"](nothing, nothing) == 1
    assert problem.metrics["f1"](nothing, nothing + 1) == 0


def test_a_word_is_answered_by_its_first_token(tmp_path: Path) -> None:
    texts = ("a fine film", "dull", "fine warm funny wise bright tender story")
    problem = TokenClassification(CLASSES, 7)
    rows = encode(Rows(texts, (), problem), byte_tokenizer(tmp_path), 8)
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(*batch["input_ids"].shape, 6)).astype(np.float32) for batch in rows.batches(2)]
    found = rows.outputs(batches)
    assert found.shape == (3, 7, 6)
    each = [batches[0][0], batches[0][1], batches[1][0]]
    for row, text in enumerate(texts):
        word_ids = byte_tokenizer(tmp_path)(text, truncation=True, max_length=8).word_ids()
        for word in range(7):
            expected = each[row][word_ids.index(word)] if word in word_ids else np.zeros(6)
            np.testing.assert_array_equal(found[row, word], expected)
    in_torch = outputs_of(rows.first(2), torch.from_numpy(batches[0]))
    np.testing.assert_array_equal(in_torch.numpy(), found[:2])


def test_words_and_labels_are_lists_or_parted_by_blanks() -> None:
    words, tags = [["Ada", "met", "IBM"], ["no", "one"]] * 30, [["B-per", "O", "B-org"], ["O", "O"]] * 30
    listed = labelled_texts(words, tags, "rows", problem=OF_WORDS)
    texts, labels = [" ".join(row) for row in words], [" ".join(row) for row in tags]
    assert labelled_texts(texts, labels, "rows", problem=OF_WORDS) == listed
    assert listed.texts[0] == "Ada met IBM"
    assert listed.classes == ("O", "B-org", "B-per")
    assert listed.labels[:2] == ((2, 0, 1), (0, 0, IGNORED))
    names = ["O", "B-per", "B-org"]
    numbered = [[names.index(tag) for tag in row] for row in tags]
    assert labelled_texts(words, numbered, "rows", names, problem=OF_WORDS) == listed


@pytest.mark.parametrize(
    ("words", "tags", "says"),
    [
        (["a", "b"], ["O"], "2 words and 1 labels"),
        (["a b"], ["O"], "the word 'a b'"),
        (["a"], 3, "write a list"),
        (["a"], [None], "no label"),
    ],
)
def test_what_does_not_fit_is_named(words: Any, tags: Any, says: str) -> None:
    with pytest.raises(DataError, match=rf"^rows: row 2 .*{says}"):
        labelled_texts([["x", "y"], words] * 30, [["O", "B-per"], tags] * 30, "rows", problem=OF_WORDS)


def write_words(path: Path, rows: int = 500) -> Path:
    """Sentences in which good words are praise, and bad words with what follows them blame."""
    rng = random.Random(0)
    with path.open("w") as file:
        for _ in range(rows):
            words = rng.choices((*GOOD, *BAD, *PLAIN), k=rng.randint(3, 9))
            tags, before = [], ""
            for word in words:
                tag = "praise" if word in GOOD else "B-blame" if word in BAD else "I-blame" if before in BAD else "O"
                tags.append(tag)
                before = word
            file.write(json.dumps({"text": words, "label": tags}) + "\n")
    return path


@pytest.mark.slow
def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    write_tokenizer(tmp_path / "encoder")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertForTokenClassification(BertConfig(vocab_size=len(VOCABULARY), **sizes)).save_pretrained(tmp_path / "encoder")
    config = {
        "model": str(tmp_path / "encoder"),
        "task": {"file": str(write_words(tmp_path / "rows.jsonl")), "problem": OF_WORDS},
        "space": {"pruning": {"ffn_group": 16}, "vocabulary": {"others": "gone", "shares": [0.7]}},
        "search": {"trials": 25, "workers": 1},
        "recover": {"members": 1, "epochs": 1, "mixed": 0},
        **yaml.safe_load(SHORT),
    }
    parsed = RunConfig.parse(config)
    assert run.search(parsed, tmp_path / "run") == 0
    front, task = front_file.read(tmp_path / "run"), wiring.task(parsed)
    assert front.metric == "f1"
    assert set(front.baselines) == {"fair", "one_liner", "pipeline"}
    assert front.baselines["fair"].accuracy["confirm"].value > 0.8
    confirm = task.splits(0).confirm
    exported = [tmp_path / "run" / str(member.artifact) for member in front.members if member.verified]
    for member, folder in zip((each for each in front.members if each.verified), exported, strict=True):
        found = task.metric.of(answers_of(folder, confirm, Target(), task.max_length), np.asarray(confirm.labels))
        assert found == pytest.approx(member.accuracy["confirm"].value, abs=1e-6)
    short = replace(confirm, texts=("a fine film",), labels=confirm.labels[:1])  # shorter than the longest row
    checkpoint = answers_of(tmp_path / "run" / "baseline" / "pipeline", short, Target(), task.max_length)
    assert checkpoint.shape == answers_of(exported[0], short, Target(), task.max_length).shape
    said = Artifact.open(exported[0]).predict(["the fine film", "a dull story", ""])
    assert [len(each.label.split()) for each in said] == [3, 3, 0]
    _is_what_others_load(exported[0], tmp_path / "run" / "baseline" / "pipeline")


def _is_what_others_load(folder: Path, checkpoint: Path) -> None:
    """Its graph gives a score per token, as loaders expect; the checkpoint runs in transformers' own pipeline."""
    (output,) = onnxruntime.InferenceSession(folder / "model.onnx").get_outputs()
    assert (output.name, len(output.shape)) == ("logits", 3)
    found = pipeline("token-classification", model=str(checkpoint), device="cpu")("the fine film")
    assert {each["word"] for each in found} <= {"the", "fine", "film"}
