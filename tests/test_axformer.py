"""The AxFormer recipe against an independent, slow, literal implementation of its walk, and its guards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from evaluators.tasks.base import Encoded
from evaluators.transformer import TransformerEvaluator, Workload
from search.loop import Meter
from search.loop import run as loop
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers import axformer
from search.samplers.axformer import AxformerSettings
from search.samplers.walk import Figures, WalkSampler
from spaces.axes.attention import AttentionAxis, forget_absent_attention
from spaces.axes.pruning import UnitPruningAxis
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.design import Design
from spaces.objectives import KL, LATENCY, SIZE
from spaces.shape import ModelShape
from spaces.space import Space
from tests.tiny_workload import tiny_rows, tiny_workload

LAYERS, HEADS, HIDDEN, FFN, GROUPS, VOCAB, CLASSES, ROWS = 2, 3, 24, 24, 4, 60, 2, 40
K, TOLERANCE = 5, 1.1


def random_bert(seed: int) -> BertForSequenceClassification:
    """Weights far enough from zero that every unit matters, one way or the other."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FFN,
        max_position_embeddings=20,
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    model = BertForSequenceClassification(config).train(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_rows(seed: int) -> Encoded:
    return tiny_rows(seed, ROWS, longest=15, vocab=VOCAB, classes=CLASSES)


@dataclass
class Literal:
    """The published walk, written down from its description: modules are masked in place, losses are added up one row
    at a time, nothing is cached and nothing of the project is used."""

    model: BertForSequenceClassification
    rows: Encoded

    def __post_init__(self) -> None:
        self.hard: set[int] = set()
        self.ffn_gone: set[int] = set()
        self.neurons_gone: set[tuple[int, int]] = set()
        self.attention_gone: set[int] = set()
        self.heads_gone: set[tuple[int, int]] = set()
        self.decisions: list[tuple[str, bool]] = []

    def losses(self) -> list[float]:
        return [self._loss(dict(row), label) for row, label in zip(self.rows.inputs, self.rows.labels, strict=True)]

    def _loss(self, row: Mapping[str, NDArray[np.int64]], label: int) -> float:
        bert = self.model.bert
        with torch.no_grad():
            x = bert.embeddings(torch.from_numpy(row["input_ids"])[None])[0]  # (T, D)
            for index, layer in enumerate(bert.encoder.layer):
                x = self._attention(index, layer, x)
                x = self._feed_forward(index, layer, x)
            pooled = torch.tanh(bert.pooler.dense(x[0]))
            return float(-self.model.classifier(pooled).double().log_softmax(-1)[label])

    def _attention(self, index: int, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        own, out = layer.attention.self, layer.attention.output
        if index in self.attention_gone or all((index, head) in self.heads_gone for head in range(HEADS)):
            return torch.as_tensor(out.LayerNorm(x))
        size, contexts = HIDDEN // HEADS, []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            query, key, value = own.query(x)[:, part], own.key(x)[:, part], own.value(x)[:, part]
            probabilities = (query @ key.T / size**0.5).softmax(-1)
            if index in self.hard:
                for row in probabilities:
                    if len(row) > K:
                        row[row < row.sort(descending=True).values[K - 1]] = 0.0
            context = probabilities @ value
            contexts.append(torch.zeros_like(context) if (index, head) in self.heads_gone else context)
        return torch.as_tensor(out.LayerNorm(out.dense(torch.cat(contexts, -1)) + x))

    def _feed_forward(self, index: int, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        whole = range(GROUPS)
        if index in self.ffn_gone or all((index, group) in self.neurons_gone for group in whole):
            return torch.as_tensor(layer.output.LayerNorm(x))
        neurons = nn.functional.gelu(layer.intermediate.dense(x))
        for group in whole:
            if (index, group) in self.neurons_gone:
                neurons[:, group * FFN // GROUPS : (group + 1) * FFN // GROUPS] = 0.0
        return torch.as_tensor(layer.output.LayerNorm(layer.output.dense(neurons) + x))

    def walk(self) -> list[tuple[str, bool]]:
        base = self.losses()
        self.best, self.base, self.needed = sum(base) / len(base), base, len(base) // 2
        for layer in range(LAYERS):
            self._decide(f"attention.{layer}", self.hard, layer)
        for layer in reversed(range(LAYERS)):
            if not self._decide(f"ffn_block.{layer}", self.ffn_gone, layer):
                self._parts(f"group.{layer}", self.neurons_gone, [(layer, group) for group in range(GROUPS)])
            if not self._decide(f"attention_block.{layer}", self.attention_gone, layer):
                self._parts(f"head.{layer}", self.heads_gone, [(layer, head) for head in range(HEADS)])
        return self.decisions

    def _decide(self, name: str, removed: set, unit: object) -> bool:  # type: ignore[type-arg]
        removed.add(unit)
        losses = self.losses()
        self.last = sum(losses) / len(losses)
        no_worse = sum(new <= old for new, old in zip(losses, self.base, strict=True))
        accepted = self.last < self.best and no_worse > self.needed
        if accepted:
            self.best = self.last
        else:
            removed.discard(unit)
        self.decisions.append((name, accepted))
        return accepted

    def _parts(self, name: str, removed: set, units: Iterable[tuple[int, int]]) -> None:  # type: ignore[type-arg]
        if self.last < TOLERANCE * self.best:
            for unit in units:
                self._decide(f"{name}.{unit[1]}", removed, unit)


def space_of(shape: ModelShape) -> Space:
    groups = [[range(g * FFN // GROUPS, (g + 1) * FFN // GROUPS) for g in range(GROUPS)]] * LAYERS
    axes = [UnitPruningAxis(shape, groups), QuantizationAxis(shape, (32,)), AttentionAxis(shape, (f"hard@{K}",))]
    return Space(axes, [forget_absent_parts, forget_absent_attention])


def decisions(work: Workload, folder: Path, *, reuse_prefixes: bool) -> tuple[list[tuple[str, bool]], Design]:
    """What the recipe tried in turn and whether it stayed, through sampler, loop, record and evaluator."""
    space = space_of(work.template.shape)
    record = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=(), study="axformer")
    settings = AxformerSettings(k=K, tolerance=TOLERANCE, literal=True)

    def walk() -> axformer.Walk:
        return axformer.walk(
            space.identity(), work.template.shape, settings, GROUPS, max(work.splits["search"].lengths)
        )

    sampler = WalkSampler(record, space, walk)
    runner = InlineRunner(lambda: TransformerEvaluator(work, reuse_prefixes=reuse_prefixes))
    loop(space, sampler, runner, record, rows=None, meter=Meter(1000))
    settled = sampler.result
    assert settled is not None
    known = {trial.key: {**trial.extras, **trial.values} for trial in record.trials()}
    return replayed(walk(), space, known), settled


def replayed(walk: axformer.Walk, space: Space, known: Mapping[str, Figures]) -> list[tuple[str, bool]]:
    """The knob changed by each step, and whether the next step still has it."""
    found: list[tuple[str, bool]] = []
    design, accepted = next(walk), dict(space.identity())
    try:
        while True:
            following = walk.send(known[space.decode(design).key])
            changed = [name for name in design if design[name] != accepted[name]]
            if changed:
                (name,) = changed
                stays = following[name] == design[name]
                found.append((name, stays))
                accepted = dict(design) if stays else accepted
            design = following
    except StopIteration as end:
        (name,) = [name for name in design if design[name] != accepted[name]]
        found.append((name, end.value[name] == design[name]))
        return found


@cache
def literal_decisions(seed: int) -> list[tuple[str, bool]]:
    return Literal(random_bert(seed), random_rows(seed)).walk()


@pytest.mark.parametrize("seed", range(20))
def test_decisions_are_those_of_a_literal_implementation(seed: int, tmp_path: Path) -> None:
    expected = literal_decisions(seed)
    work = tiny_workload(random_bert(seed), {"search": random_rows(seed)}, kinds=(f"hard@{K}",))
    for reuse in (False, True):
        found, settled = decisions(work, tmp_path / str(reuse), reuse_prefixes=reuse)
        assert found == expected
        assert {name for name, stays in found if stays} == {
            name for name, value in settled.items() if value != space_of(work.template.shape).identity()[name]
        }


def test_random_models_exercise_every_kind_of_decision() -> None:
    every = [decision for seed in range(20) for decision in literal_decisions(seed)]
    for kind in ("attention.", "ffn_block.", "group.", "attention_block.", "head."):
        assert {stays for name, stays in every if name.startswith(kind)} == {True, False}, kind


def figures(loss: float, unharmed: int = 10, classes: int = 2, folds: Iterable[float] | None = None) -> Figures:
    parts = list(folds or [loss] * 5)
    return {
        "loss": loss,
        "unharmed": unharmed,
        "rows": 10,
        "predicted_classes": classes,
        **{f"loss.{fold}": parts[fold] for fold in range(5)},
    }


def test_the_rule_is_strict() -> None:
    base = figures(1.0)
    assert axformer.accepts(figures(0.9, 6), base, base)
    assert not axformer.accepts(figures(1.0), base, base), "an equal loss is no gain"
    assert not axformer.accepts(figures(0.9, 5), base, base), "half of the rows are not more than half"


def test_guards_refuse_what_the_published_rule_takes() -> None:
    base, rule = figures(1.0), axformer.guarded(4)
    assert rule(figures(0.9), base, base)
    collapsed, lucky = figures(0.9, classes=1), figures(0.9, folds=[0.5, 0.9, 0.9, 1.1, 1.1])
    for gain in (collapsed, lucky):
        assert axformer.accepts(gain, base, base)
        assert not rule(gain, base, base)
    assert axformer.guarded(4, collapse=False)(collapsed, base, base)
    assert axformer.guarded(0)(lucky, base, base)


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        (AxformerSettings(k=30), False),
        (AxformerSettings(k=30, length=False), True),
        (AxformerSettings(k=30, literal=True), True),
        (AxformerSettings(k=29), True),
    ],
)
def test_hard_attention_that_keeps_every_key_is_not_offered(settings: AxformerSettings, offered: bool) -> None:
    shape = ModelShape(LAYERS, HEADS, HIDDEN // HEADS, FFN, HIDDEN, VOCAB)
    walk = axformer.walk(space_of(shape).identity(), shape, settings, GROUPS, longest=30)
    tried = [next(walk)]
    for _ in range(3):
        tried.append(walk.send(figures(1.0)))
    assert (
        any(str(design[f"attention.{layer}"]).startswith("hard") for design in tried for layer in range(2)) == offered
    )


def test_a_model_that_cannot_be_evaluated_ends_the_walk() -> None:
    shape = ModelShape(LAYERS, HEADS, HIDDEN // HEADS, FFN, HIDDEN, VOCAB)
    start = space_of(shape).identity()
    walk = axformer.walk(start, shape, AxformerSettings(), GROUPS, longest=30)
    assert next(walk) == start
    with pytest.raises(StopIteration) as end:
        walk.send(None)
    assert end.value.value == start
