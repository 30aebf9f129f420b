"""What attending to k keys costs in onnxruntime, and whether the exported graph answers as torch does.

    python tests/benchmarks/attention_kinds.py [--quick] [--seeds N]

Method, fixed before the runs: a classifier of MiniLM-L6's sizes with weights drawn anew per seed, in 8 bits, one
thread, batch 1. All kinds take turns at every length in three fresh processes; what a layer adds is the difference to
soft attention over the layers that attend for more than one token. Answers are compared in 32 bits at 400 lengths from
3 to 500 with those of the torch model of the same design.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import Claim, table, write
from transformers import BertConfig, BertForSequenceClassification

from evaluators.metrics.host import this_target
from evaluators.metrics.latency import Contender, measure
from evaluators.runtimes.base import Template
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Inputs
from evaluators.transforms.base import apply
from spaces.axes.attention import SOFT, Attention, AttentionKind
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member

SEEDS = (0, 1, 2)
LENGTHS = (16, 32, 64, 128, 256, 512)
KINDS = tuple(f"{kind}@{k}" for kind in ("hard", "sign") for k in (8, 16, 32, 64))
AGREEMENT = 0.995
INPUTS, ROUNDS, PROCESSES = 4, 9, 3
CHECKED_LENGTHS, CHECKED_KINDS = 400, ("hard@16", "sign@16")
_WORDS = 1000


def main() -> None:
    """Time and compare per seed, print the tables and, unless --quick, write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, two lengths, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows: list[dict[str, Any]] = []
    agreeing: dict[str, list[float]] = {kind: [] for kind in CHECKED_KINDS}
    for number, seed in enumerate(seeds, start=1):
        model = _model(seed)
        template = OnnxRuntime().template(model)
        for length in LENGTHS[:2] if asked.quick else LENGTHS:
            rows += _timed(template, length, seed)
            print(table(rows[-len(KINDS) - 1 :]), flush=True)
        for kind in CHECKED_KINDS:
            agreeing[kind].append(_agreement(model, template, kind, seed, 20 if asked.quick else CHECKED_LENGTHS))
        if not asked.quick:
            write("attention_kinds", seeds[:number], rows, _claims(agreeing))
    print(table([claim.to_json() for claim in _claims(agreeing)]))


def _claims(agreeing: Mapping[str, Sequence[float]]) -> list[Claim]:
    return [
        Claim(f"4.4{letter}", f"{kind}: exported predictions that are torch's", ">=", AGREEMENT, tuple(agreeing[kind]))
        for letter, kind in zip("ab", CHECKED_KINDS, strict=True)
    ]


def _model(seed: int) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536, vocab_size=_WORDS
    )
    return BertForSequenceClassification(config).train(False)


def _member(template: Template, kind: str, bits: int) -> Member:
    shape = template.shape
    attention = Attention((AttentionKind.parse(kind),) * shape.layers)
    return Member((Pruning.identity(shape), Quantization.uniform(shape, bits), attention))


def _timed(template: Template, length: int, seed: int) -> list[dict[str, Any]]:
    """One row per kind."""
    runtime, attending = OnnxRuntime(), template.shape.layers - template.reads_first_token
    inputs = [_inputs(np.random.default_rng([seed, length, row]), length) for row in range(INPUTS)]
    with tempfile.TemporaryDirectory() as folder:
        contenders = []
        for kind in (SOFT, *KINDS):
            path = Path(folder) / f"{kind}.onnx"
            path.write_bytes(template.assemble(_member(template, kind, 8)))
            contenders.append(Contender(kind, "onnxruntime", path))
        target = this_target("onnxruntime", runtime.version, 1, 1, length)
        measured = measure(contenders, inputs, target=target, rounds=ROUNDS, processes=PROCESSES, seed=seed)
    soft = measured[SOFT]
    return [
        {
            "seed": seed,
            "length": length,
            "kind": kind,
            "ms": measured[kind].mean_ms,
            "over soft": measured[kind].mean_ms / soft.mean_ms,
            "ms per layer more": (measured[kind].mean_ms - soft.mean_ms) / attending,
        }
        for kind in (SOFT, *KINDS)
    ]


def _inputs(rng: np.random.Generator, length: int) -> Inputs:
    return {"input_ids": rng.integers(5, _WORDS, length), "attention_mask": np.ones(length, np.int64)}


def _agreement(model: BertForSequenceClassification, template: Template, kind: str, seed: int, count: int) -> float:
    """Share of inputs, one per length, for which graph and torch predict the same class."""
    member = _member(template, kind, 32)
    shown = apply(Member(member.configs[-1:]), model)
    run = OnnxRuntime().load(template.assemble(member), threads=2)
    draw = partial(_inputs, np.random.default_rng(seed))
    batches = [{name: values[None] for name, values in draw(length).items()} for length in _lengths(count)]
    with torch.inference_mode():
        same = [
            bool(
                run(batch).argmax() == shown(**{name: torch.from_numpy(v) for name, v in batch.items()}).logits.argmax()
            )
            for batch in batches
        ]
    return float(np.mean(same))


def _lengths(count: int) -> Sequence[int]:
    found: list[int] = np.linspace(3, 500, count).astype(int).tolist()
    return found


if __name__ == "__main__":
    main()
