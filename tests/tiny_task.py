"""A tiny labelled text file and a tiny checkpoint with a tokenizer: a whole run in seconds, without a download."""

import csv
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from search import run
from search.config import RunConfig

GOOD = ("fine", "warm", "funny", "wise", "bright", "tender")
BAD = ("dull", "cold", "grim", "stale", "loud", "empty")
PLAIN = ("film", "story", "scene", "the", "a", "with", "and", "plot", "very", "cast")

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN)

# Lines of a configuration that make a run of a tiny model short.
SHORT = "verify: {members: 4, rounds: 3, processes: 1, inputs: 10}\nfinetune: {epochs: 4, learning_rate: 3.0e-3}\n"


def write_rows(path: Path, rows: int = 400, seed: int = 0) -> Path:
    """A CSV of `text,label`: snippets with more good or more bad words."""
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for _ in range(rows):
            label = rng.choice(("bad", "good"))
            words = rng.choices(GOOD if label == "good" else BAD, k=2) + rng.choices(PLAIN, k=rng.randint(3, 10))
            rng.shuffle(words)
            writer.writerow((" ".join(words), label))
    return path


def write_tokenizer(folder: Path) -> BertTokenizerFast:
    """A tokenizer that knows the words of `write_rows`, written to `folder`."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_encoder(folder: Path) -> Path:
    """A random BERT of 2 layers without a head for the task, as a `save_pretrained` folder with its tokenizer."""
    write_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        num_labels=5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def searched(folder: Path, **axis: Any) -> Path:
    """The folder of a finished run of a tiny encoder over its units, two widths and one more axis, with recovery."""
    config = {
        "model": str(write_encoder(folder / "encoder")),
        "task": {"file": str(write_rows(folder / "rows.csv", rows=600))},
        "space": {"pruning": {"ffn_group": 16}, "quantization": {"bits": [32, 8]}, **axis},
        "search": {"trials": 40, "rows": 60, "workers": 1},
        "recover": {"members": 1, "epochs": 1},
        **yaml.safe_load(SHORT),
    }
    assert run.search(RunConfig.parse(config), folder / "run") == 0
    return folder / "run"
