"""Recovered weights: what training changed comes back exactly where it belongs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.anatomy import Anatomy
from evaluators.base import Train
from evaluators.codebook import codebook
from evaluators.problems.classes import UNLABELED
from evaluators.recovery import Recoverer, Recovery, Templates, keep, load
from evaluators.refit import followers
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Encoded
from evaluators.training.distill import DistillSettings
from evaluators.transforms.base import build
from evaluators.transforms.restore import changed, put_back
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.axes.rare import RareTokens
from spaces.design import Member
from spaces.errors import RunError
from tests.prunings import random_pruning
from tests.tiny_models import CLASSES, VOCAB, tiny

FAMILIES = ("bert", "distilbert", "roberta", "electra")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_pruning_cuts_the_trained_student_out_again(family: str, seed: int) -> None:
    model, inputs = tiny(family)
    pruning = random_pruning(Anatomy.of(model).shape, seed)
    student = build(pruning, model)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    whole = put_back(model, changed(student, model, pruning), pruning)
    with torch.inference_mode():
        expected, found = student(**inputs).logits, build(pruning, whole)(**inputs).logits
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_units_that_go_keep_the_originals_weights() -> None:
    model, _ = tiny("bert")
    shape = Anatomy.of(model).shape
    pruning = random_pruning(shape, 0)
    student = build(pruning, model)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    whole = put_back(model, changed(student, model, pruning), pruning)
    gone = next(index for index, units in enumerate(pruning.layers) if units is None)
    name = Anatomy.of(model).layers[gone].name
    for own, back in zip(model.get_submodule(name).parameters(), whole.get_submodule(name).parameters(), strict=True):
        assert torch.equal(own, back)


def test_only_what_training_changed_is_kept(tmp_path: Path) -> None:
    model, _ = tiny("bert")
    pruning = Pruning.identity(Anatomy.of(model).shape)
    student = build(pruning, model)
    with torch.no_grad():
        student.classifier.bias.add_(1)
    tensors = changed(student, model, pruning)
    assert set(tensors) == {"classifier.bias"}
    keep(tmp_path / "w" / "a.safetensors", tensors, pruning, {"epochs": 1.0})
    back, same = load(tmp_path / "w" / "a.safetensors")
    assert same == pruning
    assert torch.equal(back["classifier.bias"], student.classifier.bias)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RunError, match="holds no recovered weights"):
        load(tmp_path / "a.safetensors")


def test_layers_learn_what_fed_the_next_layer_that_stayed() -> None:
    assert followers([0, 3, 4], 6) == {0: 2, 1: 3, 2: 5}
    assert followers([2], 6) == {0: 5}


@pytest.fixture
def recovery(tmp_path: Path) -> Recovery:
    model, _ = tiny("bert")
    model.config.id2label = {index: str(index) for index in range(CLASSES)}
    model.save_pretrained(tmp_path / "original")
    _write_tokenizer(tmp_path / "original")
    rng = np.random.default_rng(0)
    inputs = tuple(
        {"input_ids": rng.integers(5, VOCAB, n), "attention_mask": np.ones(n, np.int64)}
        for n in rng.integers(3, 12, 80)
    )
    labels = (*(int(label) for label in rng.integers(0, CLASSES, 60)), *[UNLABELED] * 20)
    return Recovery(
        checkpoint=str(tmp_path / "original"),
        classes=tuple(map(str, range(CLASSES))),
        rows=Encoded(inputs, labels),
        settings=DistillSettings(epochs=1, learning_rate=1e-3),
        seed=0,
        folder=tmp_path / "weights",
    )


def _write_tokenizer(folder: Path) -> None:
    from transformers import BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


def test_every_term_of_the_loss_can_be_asked_for(recovery: Recovery) -> None:
    model = recovery.original()
    member = Member((random_pruning(Anatomy.of(model).shape, 1), Quantization.uniform(Anatomy.of(model).shape)))
    terms = {"plain": {"hidden": 0.0}, "attention": {"attention": 1.0}, "labels": {"hard_labels": 0.5}}
    trained = set()
    for name, weights in terms.items():
        settings = replace(recovery.settings, **weights)
        own = replace(recovery, settings=settings, folder=recovery.folder / name)
        job = Train(member, epochs=1)
        assert Recoverer(own).train(job)["epochs"] == 1
        trained.add(own.path(job.weights).read_bytes())
    assert len(trained) == len(terms)


def test_a_trained_member_is_assembled_like_any_other(recovery: Recovery) -> None:
    original = recovery.original()
    runtime = OnnxRuntime()
    template = runtime.template(original)
    pruning = random_pruning(template.shape, 1)
    member = Member((pruning, Quantization.uniform(template.shape)))
    job = Train(member, epochs=2)
    figures = Recoverer(recovery).train(job)
    assert figures["epochs"] >= 1
    trained = Member(member.configs, job.weights)
    templates = Templates(template, runtime, recovery)
    rows = recovery.rows.first(6)
    (batch,) = rows.batches(6)

    def logits(each: Member) -> np.ndarray:
        return runtime.load(templates.of(each.weights).assemble(each), threads=1)(batch)

    student = build(pruning, put_back(original, *load(recovery.path(job.weights))))
    with torch.inference_mode():
        expected = student(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits.numpy()
    np.testing.assert_allclose(logits(trained), expected, atol=1e-4)
    assert np.abs(logits(trained) - logits(member)).max() > 1e-3


def test_trained_weights_are_smoothed_as_the_original_s_are(recovery: Recovery) -> None:
    template = OnnxRuntime().template(recovery.original())
    template = template.smoothing(template.spreads_on(recovery.rows.first(4), lambda *_: None))
    pruning = random_pruning(template.shape, 1)
    job = Train(Member((pruning, Quantization.uniform(template.shape))), epochs=0)
    Recoverer(recovery).train(job)
    trained = Templates(template, OnnxRuntime(), recovery).of(job.weights)
    member = Member((pruning, Quantization.uniform(template.shape, 8)))
    assert trained.assemble(member).count(b".smooth") == template.assemble(member).count(b".smooth") > 0


def test_a_member_is_trained_with_the_word_table_that_it_will_have(recovery: Recovery) -> None:
    original = recovery.original()
    shape = Anatomy.of(original).shape
    table = original.get_input_embeddings().weight.detach().numpy()
    told = replace(recovery, ranking=tuple(range(shape.vocab)), book=codebook(table / 2, range(5, shape.vocab)))
    plain = (random_pruning(shape, 1), Quantization.uniform(shape))
    weights = [
        load(told.path(job.weights))[0]
        for job in (Train(Member(configs), epochs=1) for configs in (plain, (*plain, RareTokens(5))))
        if Recoverer(told).train(job)
    ]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any("word_embeddings" in name for name in weights[1])  # those stay, and so does the codebook


def test_training_is_not_repeated_and_can_go_on(recovery: Recovery) -> None:
    shape = Anatomy.of(recovery.original()).shape
    member = Member((random_pruning(shape, 1), Quantization.uniform(shape)))
    short = Train(member, epochs=1)
    first = Recoverer(recovery).train(short)
    assert Recoverer(recovery).train(short) == first
    longer = Train(Member(member.configs, short.weights), epochs=1)
    Recoverer(recovery).train(longer)
    before, after = (load(recovery.path(job.weights))[0] for job in (short, longer))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_unknown_weights_are_refused(recovery: Recovery) -> None:
    runtime = OnnxRuntime()
    template = runtime.template(recovery.original())
    with pytest.raises(RunError, match="no recovered weights"):
        Templates(template, runtime, recovery).of("recovered:0")
    with pytest.raises(RunError, match="finetuned only"):
        Templates(template, runtime, None).of("recovered:0")
