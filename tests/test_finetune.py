"""Fine-tuning on a tiny random BERT: it learns, repeats itself, and leaves what it was given alone."""

import numpy as np
import pytest
import torch

from evaluators.models import weights_sha256
from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.labels import MULTI_LABEL
from evaluators.problems.words import TokenClassification
from evaluators.tasks.base import Encoded
from evaluators.training import finetune as module
from evaluators.training import schedule
from evaluators.training.finetune import _FAR, FinetuneSettings, finetune
from evaluators.training.schedule import Progress, bf16_is_faster, in_parts, length_batches
from tests.tiny_models import VOCAB, tiny

SETTINGS = FinetuneSettings(epochs=4, learning_rate=3e-3, batch_size=16)


def rows(n: int, seed: int) -> Encoded:
    """The class is that of the first token: 10, 11 or 12."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    ids = [np.r_[10 + label, rng.integers(20, VOCAB, size=rng.integers(1, 9))] for label in labels]
    inputs = tuple({"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids)
    return Encoded(inputs, tuple(labels.tolist()), pad_id=0)


def accuracy(model: torch.nn.Module, data: Encoded) -> float:
    (batch,) = data.batches(len(data))
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits
    return float((logits.argmax(-1).numpy() == data.labels).mean())


@pytest.mark.parametrize("half", [False, True])
def test_learns_in_both_precisions(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    monkeypatch.setattr(module, "bf16_is_faster", lambda device: half)
    model, _ = tiny("bert")
    tuned = finetune(model, rows(320, 0), SETTINGS, seed=0)
    assert accuracy(tuned, rows(200, 1)) > 0.9
    assert not tuned.training
    assert {parameter.dtype for parameter in tuned.parameters()} == {torch.float32}


def test_same_seed_same_weights_and_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bf16_is_faster", lambda device: False)
    model, _ = tiny("bert")
    before = weights_sha256(model)
    settings = FinetuneSettings(epochs=1, batch_size=16)
    torch.manual_seed(1)
    first = weights_sha256(finetune(model, rows(64, 0), settings, seed=0))
    torch.manual_seed(2)
    again = weights_sha256(finetune(model, rows(64, 0), settings, seed=0))
    other = weights_sha256(finetune(model, rows(64, 0), settings, seed=1))
    assert first == again
    assert len({before, first, other}) == 3
    assert weights_sha256(model) == before


def test_global_generator_is_put_back() -> None:
    model, _ = tiny("bert")
    state = torch.random.get_rng_state()
    finetune(model, rows(16, 0), FinetuneSettings(epochs=1), seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_counts_every_step() -> None:
    told: list[Progress] = []
    finetune(tiny("bert")[0], rows(40, 0), FinetuneSettings(epochs=2, batch_size=16), seed=0, progress=told.append)
    assert [(p.step, p.total) for p in told] == [(i, 6) for i in range(1, 7)]
    assert told[-1].eta_seconds == 0
    assert all(np.isfinite(p.loss) and p.eta_seconds >= 0 for p in told)


def test_batches_hold_every_row_once_and_similar_lengths() -> None:
    lengths = tuple(np.random.default_rng(0).integers(3, 60, size=1000).tolist())
    batches = length_batches(lengths, 32, np.random.default_rng(1))
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest != sorted(longest)
    assert batches == length_batches(lengths, 32, np.random.default_rng(1))
    assert batches != length_batches(lengths, 32, np.random.default_rng(2))


def test_choice_of_precision_is_a_plain_answer() -> None:
    assert bf16_is_faster("cpu") in (True, False)


def test_few_rows_are_passed_more_often_unless_told_otherwise() -> None:
    passes = [FinetuneSettings(batch_size=32).passes(rows) for rows in (1, 300, 1000, 1280, 100_000)]
    assert passes == [120, 12, 4, 3, 3]
    assert FinetuneSettings(epochs=2).passes(300) == 2


@pytest.mark.parametrize("problem", [MULTI_LABEL, TokenClassification(("O", "B-a"), 10)])
def test_rare_labels_are_passed_more_often(problem: Problem) -> None:
    assert [FinetuneSettings(batch_size=32).passes(rows, problem) for rows in (2703, 100_000)] == [10, 3]
    assert FinetuneSettings(epochs=2).passes(2703, problem) == 2


def test_averaged_weights_are_the_mean_of_fine_tunings() -> None:
    model = tiny("bert")[0]
    alone = [finetune(model, rows(40, 0), FinetuneSettings(epochs=1), seed=seed) for seed in (0, _FAR)]
    both = finetune(model, rows(40, 0), FinetuneSettings(epochs=1, averaged=2), seed=0)
    for name, found in both.named_parameters():
        mean = sum(dict(each.named_parameters())[name] for each in alone) / 2
        torch.testing.assert_close(found, mean)


def without_dropout(model: torch.nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0


def test_batches_of_long_rows_are_cut_into_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_MOST_TOKENS", 40)
    rows = tokens(10, 3, 20, 7, 9, 1)
    assert in_parts([0, 1, 3, 4], rows) == [[0, 1, 3, 4]]
    assert in_parts([0, 1, 2, 3, 4], rows) == [[0, 1], [2, 3], [4]]
    assert in_parts([2], tokens(0, 0, 400)) == [[2]]  # at least a row


def test_without_a_mask_rows_of_one_length_are_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_MOST_TOKENS", 8)
    waves = Encoded(tuple({"input_values": np.zeros(length, np.float32)} for length in (4, 3, 4, 3, 4)), ())
    assert in_parts([0, 1, 2, 3, 4], waves) == [[1, 3], [0, 2], [4]]
    assert in_parts([4, 0], waves) == [[4, 0]]


def tokens(*lengths: int) -> Encoded:
    ids = [np.ones(length, np.int64) for length in lengths]
    return Encoded(tuple({"input_ids": row, "attention_mask": row} for row in ids), ())


def test_parts_of_batches_learn_the_same_as_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny("bert")
    without_dropout(model)
    monkeypatch.setattr(module, "bf16_is_faster", lambda device: False)
    whole, in_pieces = list[Progress](), list[Progress]()
    finetune(model, rows(320, 0), SETTINGS, seed=0, progress=whole.append)
    monkeypatch.setattr(schedule, "_MOST_TOKENS", 30)
    finetune(model, rows(320, 0), SETTINGS, seed=0, progress=in_pieces.append)
    assert [each.loss for each in in_pieces] == pytest.approx([each.loss for each in whole], rel=0.01, abs=1e-3)


def test_divergence_of_answers_is_that_of_kullback_and_leibler_both_ways() -> None:
    left, right = torch.randn(5, 3), torch.randn(5, 3)
    one, other = torch.distributions.Categorical(logits=left), torch.distributions.Categorical(logits=right)
    both = torch.distributions.kl_divergence(one, other) + torch.distributions.kl_divergence(other, one)
    torch.testing.assert_close(module._apart(CLASSIFICATION, left, right), both.mean() / 2)


def test_consistency_changes_nothing_but_what_dropout_makes_differ() -> None:
    model, _ = tiny("bert")
    plain, asked = (FinetuneSettings(epochs=1, consistency=weight) for weight in (0.0, 2.0))
    assert weights_sha256(finetune(model, rows(40, 0), plain, seed=0)) != weights_sha256(
        finetune(model, rows(40, 0), asked, seed=0)
    )
    without_dropout(model)
    alone, twice = (finetune(model, rows(40, 0), settings, seed=0) for settings in (plain, asked))
    for name, found in twice.named_parameters():
        torch.testing.assert_close(found, dict(alone.named_parameters())[name], rtol=1e-3, atol=1e-4)
