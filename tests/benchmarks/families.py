"""Families at work: all of them at tiny size through the whole path, two of them at full size to a latency-size front.

    python tests/benchmarks/families.py [--quick] [--seeds N]

Method, fixed before the runs: the table of tests/test_families.py (load, rank, search 10 trials, verify, export, load
again, for every text family) is run once and its seconds are counted; a failing row makes it infinite. Then, for every
seed, ModernBERT-base and DeBERTa-v3-base are made from their published sizes with random weights, since accuracy plays
no part here, and 40 designs of each (the anchors of the latency model, the rest random cuts and widths) are really
assembled and timed at 64 tokens beside the untouched model, one thread, as a search calibrates. A design counts if its
file has exactly the predicted bytes. Reported is the front over measured latency, bytes and weights kept (which stand
for the accuracy that random weights have none of; without them the emptiest designs dominate all others), and how many
designs are on that of latency and bytes alone. Nothing else runs meanwhile.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import ROOT, Claim, table, write
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedModel,
)

from evaluators.conforming import conform
from evaluators.latency_model import time_beside
from evaluators.latency_probes import probes
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from search.front import front
from spaces.axes.pruning import Pruning
from spaces.design import Member
from spaces.target import Target

SEEDS = (0, 1, 2)
DESIGNS, QUICK_DESIGNS = 40, 4
TOKENS, INPUTS = 64, 20
TOGETHER = 2  # designs that are open beside the original: each may take 0.7 GB
# Bounds of the "done when": minutes of the table, and what a front is at the least.
SECONDS, ON_THE_FRONT, FASTEST, SMALLEST = 240.0, 8.0, 10.0, 5.0


def modernbert_base() -> PreTrainedModel:
    """149 million weights: 22 layers of 768, of which every third sees all tokens."""
    return ModernBertForSequenceClassification(ModernBertConfig(num_labels=2, classifier_pooling="mean"))


def deberta_v3_base() -> PreTrainedModel:
    """184 million weights, 98 million of them in the table of words: 12 layers of 768."""
    config = DebertaV2Config(
        vocab_size=128_100,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        pooler_hidden_size=768,
        num_labels=2,
    )
    return DebertaV2ForSequenceClassification(config)


FAMILIES = {"ModernBERT-base": modernbert_base, "DeBERTa-v3-base": deberta_v3_base}


def main() -> None:
    """Run the table and the two fronts, print and, unless --quick, write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, four designs, no table; writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    seconds = math.inf if asked.quick else table_seconds()
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for name in FAMILIES:
            rows.append(_row(name, seed, QUICK_DESIGNS if asked.quick else DESIGNS))
            print(table(rows[-1:]), flush=True)
    if not asked.quick:
        write("families", seeds, rows, _claims(rows, seconds))


def table_seconds() -> float:
    """Wall seconds of the tiny table; infinite if a row fails."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "tests/test_families.py"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    return time.perf_counter() - begin if done.returncode == 0 else math.inf


def _row(name: str, seed: int, designs: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model, runtime = conform(FAMILIES[name]().train(False)), OnnxRuntime()
    template = runtime.template(model)
    del model  # templates and files of this size fill the memory
    members = probes(template.shape, runtime.bits, designs, seed)
    rng = np.random.default_rng(seed)
    inputs = [
        {"input_ids": rng.integers(5, template.shape.vocab, TOKENS), "attention_mask": np.ones(TOKENS, np.int64)}
        for _ in range(INPUTS)
    ]
    target = Target(runtime_version=runtime.version, lengths=TOKENS)
    with tempfile.TemporaryDirectory() as scratch:
        fair = Path(scratch) / runtime.filename
        fair.write_bytes(template.untouched())
        fair_bytes = fair.stat().st_size
        timed = []
        for start in range(0, len(members), TOGETHER):
            print(f"{name}, seed {seed}: design {start} of {len(members)}", flush=True)
            pair = members[start : start + TOGETHER]
            timed.append(time_beside(pair, template, runtime, inputs, target=target, fair=fair, seed=seed + start))
    ratios = [ratio for group in timed for ratio in group.ratios]
    fair_ms = float(np.median([group.fair_ms for group in timed]))
    exact = [template.size(member) == len(template.assemble(member)) for member in members]
    sizes = [template.size(member) for member in members]
    gone = [-float(template.size(Member((member.config(Pruning),)))) for member in members]
    costs = [(ratio * fair_ms, float(size), lost) for ratio, size, lost in zip(ratios, sizes, gone, strict=True)]
    best = front(costs, lambda cost: cost)
    return {
        "family": name,
        "seed": seed,
        "designs": len(members),
        "of predicted bytes": sum(exact),
        "fair ms": fair_ms,
        "fair MB": fair_bytes / 1e6,
        "on the front": len(best),
        "on that of latency and size": len(front(costs, lambda cost: cost[:2])),
        "times as fast": fair_ms / min(ms for ms, *_ in best),
        "times as small": fair_bytes / min(size for _, size, _ in best),
        "front (ms, MB, MB kept in 32 bits)": "; ".join(
            f"{ms:.2f}, {size / 1e6:.1f}, {-lost / 1e6:.0f}" for ms, size, lost in sorted(best)
        ),
    }


def _claims(rows: Sequence[Mapping[str, Any]], seconds: float) -> list[Claim]:
    claims = [Claim("6.1a", "seconds of the tiny table", "<=", SECONDS, (seconds,))]
    for name, letters in zip(FAMILIES, ("bcde", "fghi"), strict=True):
        own = [row for row in rows if row["family"] == name]
        shares = tuple(row["of predicted bytes"] / row["designs"] for row in own)
        for letter, what, target, values in (
            (letters[0], "designs on the front", ON_THE_FRONT, _column(own, "on the front")),
            (letters[1], "fastest over fair", FASTEST, _column(own, "times as fast")),
            (letters[2], "fair over smallest", SMALLEST, _column(own, "times as small")),
            (letters[3], "share of files of exactly the predicted bytes", 1.0, shares),
        ):
            claims.append(Claim(f"6.1{letter}", f"{name}: {what}", ">=", target, values))
    return claims


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(row[name]) for row in rows)


if __name__ == "__main__":
    main()
