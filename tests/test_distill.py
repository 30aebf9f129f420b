"""Distillation on tiny random models: its loss by hand, what is learnt, what stays, and when it stops."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from evaluators.anatomy import Anatomy, layer_names
from evaluators.models import weights_sha256
from evaluators.problems.base import mean_divergence
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Encoded
from evaluators.training import pupil, schedule, teacher
from evaluators.training.distill import Distilled, DistillSettings, distill, uniform_layer_map
from evaluators.training.loss import LossWeights, distillation_loss
from evaluators.training.rounding import Rounding
from evaluators.training.schedule import Progress, as_batch
from evaluators.training.teacher import EMBEDDINGS, Answers, Teacher, observed
from evaluators.transforms.base import build
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.errors import ConfigError, DataError, ModelError
from tests.tiny_models import CLASSES, FFN, HEADS, HIDDEN, LAYERS, TEXT_FAMILIES, VOCAB, tiny

WHOLE = LayerUnits(tuple(range(HEADS)), tuple(range(FFN)))
SMALLER = Pruning((LayerUnits((0, 2), tuple(range(20))), None, LayerUnits((1,), tuple(range(8)))))
FOLLOWERS = {0: 1, 1: 2}
QUICK = DistillSettings(epochs=2, learning_rate=1e-3, batch_size=16, held_out=0.2)


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pupil, teacher):
        monkeypatch.setattr(module, "bf16_is_faster", lambda device: False)


def rows(n: int, seed: int = 0, labels: Callable[[int], int] = lambda row: row % CLASSES) -> Encoded:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, VOCAB, size=rng.integers(2, 12)) for _ in range(n)]
    inputs = tuple({"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids)
    return Encoded(inputs, tuple(labels(row) for row in range(n)), pad_id=0)


def taught(data: Encoded, model: PreTrainedModel | None = None, **options: object) -> Teacher:
    layers = (EMBEDDINGS, *range(LAYERS))
    return Teacher.of(model or tiny("bert")[0], data, hidden_layers=layers, **options)  # type: ignore[arg-type]


def logits(model: PreTrainedModel, data: Encoded) -> NDArray[np.float32]:
    with torch.no_grad():
        found: Tensor = model(**as_batch(data, "cpu")).logits
    return found.numpy()


def log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values - np.log(np.exp(values).sum(-1, keepdims=True))
    return found


def test_the_loss_is_what_a_hand_computes() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(size=(2, 3, 4))  # (B, C)
    labels, mask = np.array([2, -1, 0]), np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    states, aims = rng.normal(size=(2, 2, 3, 3, 5))  # two layers of (B, T, H)
    maps, goals = rng.random(size=(2, 3, 3, 3))  # (B, T, T)
    heat, share = 2.0, 0.25
    s, t = log_softmax(mine / heat), log_softmax(theirs / heat)
    soft = heat**2 * (np.exp(t) * (t - s)).sum(-1)
    hard = -log_softmax(mine)[range(3), labels]
    logit_part = np.mean([(1 - share) * soft[0] + share * hard[0], soft[1], (1 - share) * soft[2] + share * hard[2]])
    tokens = mask.astype(bool)
    first = ((states[0] - aims[0])[tokens] ** 2).mean()
    last = ((states[1] - aims[1])[:, 0] ** 2).mean()  # its first tokens alone
    cosine = (maps * goals).sum(-1) / np.linalg.norm(maps, axis=-1) / np.linalg.norm(goals, axis=-1)
    expected = logit_part + 0.3 * (first + last) / 2 + 0.7 * (1 - cosine[tokens].mean())

    def tensors(*arrays: NDArray[np.float64]) -> list[Tensor]:
        return [torch.from_numpy(array) for array in arrays]

    own = Answers(torch.from_numpy(mine), dict(enumerate(tensors(states[0], states[1][:, :1]))), {0: tensors(maps)[0]})
    other = Answers(torch.from_numpy(theirs), dict(zip((1, 3), tensors(*aims), strict=True)), {1: tensors(goals)[0]})
    weights = LossWeights(temperature=heat, hidden=0.3, attention=0.7, hard_labels=share)
    found = distillation_loss(own, other, {0: 1, 1: 3}, torch.from_numpy(labels), torch.from_numpy(mask), weights)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_ignores_padding() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    state, aim = torch.randn(2, 2, 3, 4)
    garbage = torch.where(mask.bool()[..., None], aim, torch.full_like(aim, 99.0))

    def loss(target: Tensor) -> Tensor:
        flat = torch.zeros(2, 3)
        labels = torch.tensor([-1, -1])
        return distillation_loss(
            Answers(flat, {0: state}, {}), Answers(flat, {0: target}, {}), {0: 0}, labels, mask, QUICK
        )

    assert torch.equal(loss(aim), loss(garbage))


@pytest.mark.parametrize(
    ("student", "whole", "expected"),
    [(0, 6, []), (2, 6, [2, 5]), (3, 6, [1, 3, 5]), (4, 6, [0, 2, 3, 5]), (6, 6, [0, 1, 2, 3, 4, 5])],
)
def test_the_uniform_map_spreads_evenly_and_ends_at_the_end(student: int, whole: int, expected: list[int]) -> None:
    assert list(uniform_layer_map(student, whole).values()) == expected


def test_there_is_no_uniform_map_to_fewer_layers() -> None:
    with pytest.raises(ModelError, match="A student of 4 layers has more than its teacher"):
        uniform_layer_map(4, 3)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_a_pruned_student_comes_nearer_to_its_teacher(family: str) -> None:
    original, data, fresh = tiny(family)[0], rows(200), rows(100, seed=1)
    student = build(SMALLER, original)
    settings = DistillSettings(epochs=5, learning_rate=3e-3, batch_size=16, held_out=0.1, patience=5)
    done = distill(student, taught(data, original), data, FOLLOWERS, settings, seed=0)
    losses = [epoch.train_loss for epoch in done.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert done.epochs[done.best].held_out_kl == min(epoch.held_out_kl for epoch in done.epochs) < done.untrained_kl
    aim = logits(original, fresh)
    assert mean_divergence(CLASSIFICATION, aim, logits(done.model, fresh)) < 0.7 * mean_divergence(
        CLASSIFICATION, aim, logits(student, fresh)
    )


def test_figures_are_those_of_the_model_that_comes_back() -> None:
    original, data = tiny("bert")[0], rows(60)
    done = distill(build(SMALLER, original), taught(data), data, FOLLOWERS, QUICK, seed=0)
    held_out = data.take(np.random.default_rng(0).permutation(60)[:12].tolist())
    kl = mean_divergence(CLASSIFICATION, logits(original, held_out), logits(done.model, held_out))
    assert done.epochs[done.best].held_out_kl == pytest.approx(kl, rel=1e-4)
    assert 0 <= done.epochs[done.best].held_out_agreement <= 1
    assert not done.model.training


def test_same_seed_same_weights_and_the_student_stays() -> None:
    data = rows(64)
    student = build(SMALLER, tiny("bert")[0]).train()
    before, teacher = weights_sha256(student), taught(data)
    torch.manual_seed(1)
    first = distill(student, teacher, data, FOLLOWERS, QUICK, seed=0)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = distill(student, teacher, data, FOLLOWERS, QUICK, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = distill(student, teacher, data, FOLLOWERS, QUICK, seed=1)
    assert weights_sha256(first.model) == weights_sha256(again.model)
    assert [e.train_loss for e in first.epochs] == [e.train_loss for e in again.epochs]
    assert len({before, weights_sha256(first.model), weights_sha256(other.model)}) == 3
    assert weights_sha256(student) == before
    assert student.training


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_frozen_embeddings_stay_and_free_ones_learn(family: str) -> None:
    original, data = tiny(family)[0], rows(40)
    teacher, student = taught(data, original), build(SMALLER, original)

    def changed(settings: DistillSettings) -> set[str]:
        done = distill(student, teacher, data, FOLLOWERS, settings, seed=0)
        assert all(parameter.requires_grad for parameter in done.model.parameters())
        after = dict(done.model.named_parameters())
        return {name for name, value in student.named_parameters() if not torch.equal(value, after[name])}

    frozen, free = changed(QUICK), changed(DistillSettings(epochs=1, freeze_embeddings=False, held_out=0.2))
    names, first = [name for name, _ in student.named_parameters()], layer_names(student)[0]
    in_front = set(names[: next(place for place, name in enumerate(names) if name.startswith(first))])
    words = next(name for name, module in student.named_modules() if module is student.get_input_embeddings())
    assert f"{words}.weight" in free - frozen <= in_front
    assert not frozen & in_front
    assert any(name.startswith(first) for name in frozen)


def test_rows_without_a_label_do_not_use_one() -> None:
    labelled, unlabelled = rows(48), rows(48, labels=lambda row: -1)
    student, teacher = build(SMALLER, tiny("bert")[0]), taught(labelled)

    def trained(data: Encoded, hard_labels: float) -> str:
        settings = DistillSettings(epochs=1, batch_size=16, hard_labels=hard_labels)
        return weights_sha256(distill(student, teacher, data, FOLLOWERS, settings, seed=0).model)

    soft = trained(labelled, 0.0)
    assert trained(unlabelled, 1.0) == soft
    assert trained(labelled, 1.0) != soft


def test_stops_when_held_out_rows_gain_nothing_and_returns_the_best_epoch() -> None:
    data, student = rows(60), build(SMALLER, tiny("bert")[0])
    still = DistillSettings(epochs=9, learning_rate=0.0, patience=2, held_out=0.2)
    done = distill(student, taught(data), data, FOLLOWERS, still, seed=0)
    assert (len(done.epochs), done.best) == (3, 0)
    assert done.epochs[0].held_out_kl == done.untrained_kl
    assert weights_sha256(done.model) == weights_sha256(student)


def test_divergence_is_an_error_and_not_a_figure() -> None:
    data, student = rows(40), build(SMALLER, tiny("bert")[0])
    wild = DistillSettings(epochs=3, learning_rate=1e30, batch_size=16)
    with pytest.raises(ConfigError, match="Lower learning_rate"):
        distill(student, taught(data), data, FOLLOWERS, wild, seed=0)


def test_progress_counts_every_step() -> None:
    data, told = rows(50), list[Progress]()
    student = build(SMALLER, tiny("bert")[0])
    distill(student, taught(data), data, FOLLOWERS, QUICK, seed=0, progress=told.append)
    assert [(p.step, p.total) for p in told] == [(i, 6) for i in range(1, 7)]  # 40 of 50 rows are trained on
    assert told[-1].eta_seconds == 0


def narrow(width: int) -> PreTrainedModel:
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": FFN}
    return BertForSequenceClassification(BertConfig.from_dict({**sizes, "vocab_size": VOCAB, "num_labels": CLASSES}))


def test_a_narrower_student_learns_through_projections_that_are_dropped() -> None:
    data, student = rows(80), narrow(HIDDEN // 2)
    settings = DistillSettings(epochs=4, learning_rate=3e-3, batch_size=16, freeze_embeddings=False, patience=4)
    done = distill(student, taught(data), data, uniform_layer_map(2, LAYERS), settings, seed=0)
    assert done.epochs[-1].train_loss < 0.9 * done.epochs[0].train_loss
    assert done.model.state_dict().keys() == student.state_dict().keys()
    again = distill(student, taught(data), data, uniform_layer_map(2, LAYERS), settings, seed=0)
    assert weights_sha256(again.model) == weights_sha256(done.model)


def test_attention_is_learnt_and_the_implementation_stays() -> None:
    original, data = tiny("bert")[0], rows(80)
    pruning = Pruning((LayerUnits((0, 3), WHOLE.neurons), WHOLE, LayerUnits((), WHOLE.neurons)))  # the last has none
    student, teacher = build(pruning, original), taught(data, attention_layers=range(LAYERS))
    settings = DistillSettings(
        epochs=3, learning_rate=3e-3, batch_size=16, hidden=0.0, attention=100.0, freeze_embeddings=False, patience=3
    )
    done = distill(student, teacher, data, {0: 0, 1: 1, 2: 2}, settings, seed=0)
    assert done.epochs[-1].train_loss < 0.8 * done.epochs[0].train_loss
    assert done.model.config._attn_implementation == student.config._attn_implementation


@pytest.mark.parametrize("units", [None, LayerUnits((), ())])
def test_students_of_almost_nothing_train(units: LayerUnits | None) -> None:
    data, student = rows(40), build(Pruning((units,) * LAYERS), tiny("bert")[0])
    count = len(layer_names(student))
    done = distill(student, taught(data), data, dict.fromkeys(range(count), 2), QUICK, seed=0)
    assert weights_sha256(done.model) != weights_sha256(student)


def test_only_tokens_that_the_head_reads_count_in_the_last_layer() -> None:
    """BERT's head reads the first token: then others of the last layer leave no trace in training."""
    data, student = rows(48), build(SMALLER, tiny("bert")[0])
    teacher, other = taught(data), taught(data)
    where = 0
    for length in data.lengths:
        other._source._hidden[2][where + 1 : where + length] = 7.0  # type: ignore[attr-defined]
        where += length
    first, again = (distill(student, each, data, FOLLOWERS, QUICK, seed=0) for each in (teacher, other))
    assert weights_sha256(first.model) == weights_sha256(again.model)


def test_a_teacher_answers_as_its_model_does_from_memory_and_anew() -> None:
    model, _ = tiny("bert")
    data = rows(21)
    layers = (EMBEDDINGS, 0, 2)
    told: list[tuple[int, int]] = []
    kept = Teacher.of(
        model, data, hidden_layers=layers, attention_layers=(1,), batch_size=8, progress=lambda *done: told.append(done)
    )
    anew = Teacher.of(model, data, hidden_layers=layers, attention_layers=(1,), budget_bytes=100)
    assert told == [(8, 21), (16, 21), (21, 21)]
    batch = [5, 17, 3, 9]
    inputs = as_batch(data.take(batch), "cpu")
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True)
        model.set_attn_implementation("eager")
        maps = model(**inputs, output_attentions=True).attentions
    for each in (kept, anew):
        found = each.answers(batch, inputs, layers, (1,))
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
        for layer in layers:
            aim = expected.hidden_states[layer + 1][real]
            torch.testing.assert_close(found.hidden[layer][real].float(), aim, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(found.attention[1][real].float(), maps[1].mean(1)[real], rtol=2e-3, atol=2e-3)
        assert each.answers(batch, inputs).hidden == {}


def test_a_student_learns_the_same_from_memory_and_anew() -> None:
    data, student = rows(64), build(SMALLER, tiny("bert")[0])
    kept, anew = (
        distill(student, taught(data, budget_bytes=budget), data, FOLLOWERS, QUICK, seed=0) for budget in (10**9, 0)
    )
    for one, other in zip(kept.model.parameters(), anew.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


def test_what_was_observed_leaves_no_hooks_behind() -> None:
    model, inputs = tiny("bert")
    with observed(model, (EMBEDDINGS, 0)) as answers:
        assert answers(inputs).hidden.keys() == {EMBEDDINGS, 0}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("layer_map", "message"),
    [({2: 2}, "names layer 2 of a student of 2"), ({0: 5}, "shall follow layer 5, the teacher knows")],
)
def test_a_map_of_other_models_is_refused(layer_map: dict[int, int], message: str) -> None:
    data, student = rows(20), build(SMALLER, tiny("bert")[0])
    with pytest.raises(ModelError, match=message):
        distill(student, taught(data), data, layer_map, QUICK, seed=0)


def test_other_rows_than_the_teachers_are_refused() -> None:
    student, teacher = build(SMALLER, tiny("bert")[0]), taught(rows(20))
    with pytest.raises(DataError, match="has 30 rows and the teacher's answers to 20"):
        distill(student, teacher, rows(30), FOLLOWERS, QUICK, seed=0)


def rounded_kl(done: Distilled, rounding: Rounding, data: Encoded, aim: NDArray[np.float32]) -> float:
    with rounding.applied(done.model):
        return mean_divergence(CLASSIFICATION, aim, logits(done.model, data))


def test_rounding_leaves_weights_in_fp32_that_round_better() -> None:
    original, data, fresh = tiny("bert")[0], rows(240), rows(100, seed=1)
    student = build(SMALLER, original)
    widths = Quantization((LayerBits(4, 4),) * Anatomy.of(original).shape.layers, embeddings=4, head=4)
    rounding, teacher = Rounding.of(widths, student, (0, 2)), taught(data, original)
    settings = DistillSettings(epochs=6, learning_rate=3e-3, batch_size=16, held_out=0.1, patience=6)
    plain = distill(student, teacher, data, FOLLOWERS, settings, seed=0)
    aware = distill(student, teacher, data, FOLLOWERS, settings, seed=0, rounding=rounding)
    assert aware.model.state_dict().keys() == student.state_dict().keys()
    for name, values in aware.model.named_parameters():
        assert values.isfinite().all(), name
    aim = logits(original, fresh)
    assert rounded_kl(aware, rounding, fresh, aim) < rounded_kl(plain, rounding, fresh, aim)


def test_parts_of_batches_teach_the_same_as_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    data, student = rows(60), build(SMALLER, tiny("bert")[0])
    settings = replace(QUICK, hidden=0.0)
    whole = distill(student, taught(data), data, FOLLOWERS, settings, seed=0)
    monkeypatch.setattr(schedule, "_MOST_TOKENS", 40)
    parts = distill(student, taught(data), data, FOLLOWERS, settings, seed=0)
    assert parts.epochs[-1].train_loss == pytest.approx(whole.epochs[-1].train_loss, rel=1e-3)
    assert logits(parts.model, data) == pytest.approx(logits(whole.model, data), abs=1e-3)
