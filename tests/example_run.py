"""Writes the folder of an invented run in the shapes of a real one: 130 trials, 24 verified members, four baselines."""

import csv
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LAYERS, HEADS, FFN = 6, 12, 1536
FAIR_MS, FAIR_BYTES, FAIR_ACCURACY = 5.31, 90_900_000, 0.863
ROWS = 1500
BANDS = ([3, 14], [15, 22], [23, 31], [32, 60])
COLUMNS = (
    "key",
    "study",
    "state",
    "attempts",
    "knobs",
    "objectives",
    "extras",
    "started",
    "ended",
    "seconds",
    "node",
    "error",
)
START = 1_750_000_000.0


def decoded(
    heads: float = 1.0, ffn: float = 1.0, layers: int = LAYERS, bits: int = 32, embeddings: int = 32
) -> dict[str, Any]:
    """A decoded design that keeps these shares of heads and neurons in its first `layers` layers."""
    layer = {
        "heads": list(range(round(HEADS * heads))),
        "ffn": round(FFN * ffn),
        "ffn_mask": "f",
        "bits": {"attention": bits, "ffn": bits},
    }
    return {
        "layers": [layer] * layers + [None] * (LAYERS - layers),
        "embeddings": {"bits": embeddings},
        "head": {"bits": bits},
    }


def scored(value: float, *, n: int = ROWS, noise: float = 0.009) -> dict[str, Any]:
    """An accuracy block: value, interval and paired drop."""
    drop = FAIR_ACCURACY - value
    return {
        "value": round(value, 4),
        "ci95": [round(value - 2 * noise, 4), round(value + 2 * noise, 4)],
        "n": n,
        "drop": {"value": round(drop, 4), "ci95": [round(drop - noise, 4), round(drop + noise, 4)]},
    }


def timed(mean: float) -> dict[str, Any]:
    """A latency block with speed-ups over the timed baselines."""
    speedup = {
        name: [round(ms / mean * factor, 3) for factor in (1.0, 0.98, 1.02)]
        for name, ms in {"fair": FAIR_MS, "one_liner": 2.04, "pipeline": 9.5}.items()
    }
    return {
        "mean_ms": round(mean, 3),
        "p50_ms": round(mean * 0.93, 3),
        "p95_ms": round(mean * 1.7, 3),
        "rounds": 30,
        "processes": 3,
        "speedup": speedup,
        "bands": [
            {"tokens": tokens, "n": 25, "mean_ms": round(mean * share, 3), "speedup": speedup}
            for tokens, share in zip(BANDS, (0.5, 0.8, 1.1, 1.6), strict=True)
        ],
    }


def member(
    key: str, design: dict[str, Any] | None, accuracy: float, mean_ms: float | None, size: int | None
) -> dict[str, Any]:
    """A verified member or a baseline, as in front.json."""
    return {
        "key": key,
        "kind": "single",
        "decoded": design,
        "knobs": None,
        "recipe": "search",
        "weights": "finetuned",
        "parents": [],
        "stages": None,
        "meets_limits": FAIR_ACCURACY - accuracy <= 0.01,
        "verified": True,
        "accuracy": {"search": scored(accuracy + 0.004), "confirm": scored(accuracy), "test": None},
        "latency": None if mean_ms is None else timed(mean_ms),
        "size": None
        if size is None
        else {"bytes": size, "tokenizer_bytes": 711_000, "ratio": {"fair": round(FAIR_BYTES / size, 3)}},
        "fidelity": {"agreement": 0.9993},
        "artifact": f"models/{key}",
        "by_target": {},
    }


def unverified(made: dict[str, Any]) -> dict[str, Any]:
    """The member as search alone knows it: search rows, predicted latency and size."""
    mean = {"mean_ms": made["latency"]["mean_ms"], "p50_ms": None, "p95_ms": None}
    return {
        **made,
        "verified": False,
        "meets_limits": None,
        "accuracy": {"search": made["accuracy"]["search"], "confirm": None, "test": None},
        "latency": {**mean, "rounds": 0, "processes": 0, "speedup": {}},
        "size": {"bytes": made["size"]["bytes"], "tokenizer_bytes": 0, "ratio": {}},
        "artifact": None,
    }


def front(rng: random.Random) -> dict[str, Any]:
    """A whole front.json: 24 verified and 6 unverified members."""
    members = []
    for index in range(30):
        depth, share = rng.choice([6, 6, 6, 5, 4, 3]), 0.15 + 0.85 * rng.random()
        bits, table = rng.choice([(8, 8), (8, 4), (8, 4), (4, 4), (32, 8)])
        body = depth / LAYERS * (0.35 + 0.65 * share)
        mean = 0.12 + FAIR_MS * body * {32: 1.0, 8: 0.38, 4: 1.1}[bits]
        size = int(300_000 + 47e6 * table / 32 + 43e6 * depth / LAYERS * (0.3 + 0.7 * share) * bits / 32)
        accuracy = FAIR_ACCURACY - 0.11 * (1 - body) ** 3 - (0.004 if bits < 32 else 0.0) + rng.gauss(0, 0.003)
        made = member(
            f"{rng.getrandbits(64):016x}", decoded(share**0.5, share, depth, bits, table), accuracy, mean, size
        )
        members.append(made if index < 24 else unverified(made))
    fair = member("fair", decoded(), FAIR_ACCURACY, FAIR_MS, FAIR_BYTES)
    baselines = {
        "fair": fair,
        "one_liner": member("one_liner", decoded(bits=8, embeddings=8), 0.862, 2.04, 22_900_000),
        "pipeline": member("pipeline", decoded(), FAIR_ACCURACY, 9.5, 90_900_000),
        "linear": member("linear", None, 0.793, 0.05, 2_100_000),
    }
    return {
        "schema_version": 1,
        "run": "example",
        "targets": [
            {
                "label": "here",
                "device": "cpu",
                "runtime": "onnxruntime",
                "threads": 1,
                "batch_size": 1,
                "lengths": "real",
            }
        ],
        "seed": 0,
        "limits": {"accuracy_drop": "1pt", "latency": "40%"},
        "confidence": 0.95,
        "objectives": [
            {"name": "accuracy", "goal": "max", "unit": "fraction"},
            {"name": "latency", "goal": "min", "unit": "ms"},
            {"name": "size", "goal": "min", "unit": "bytes"},
        ],
        "splits": {
            **{name: {"n": ROWS, "sha256": f"{rng.getrandbits(256):064x}"} for name in ("search", "confirm")},
            "test": {"n": ROWS, "sha256": f"{rng.getrandbits(256):064x}", "reads": 1},
        },
        "baselines": baselines,
        "trials": {"complete": 126, "stopped": 1, "failed": 3, "running": 0, "duplicates": 0},
        "hypervolume": 0.81,
        "members": members,
        "picks": picks(members),
        "latency_model": {"spearman": 0.981, "mean_error": 0.027, "n": 15},
        "search": {"designs_per_second": 1.9, "busy_share": 0.94},
    }


def picks(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The limits pick certified, the four others not; picked members get their test block."""
    verified = [made for made in members if made["verified"]]
    fitting = [made for made in verified if made["meets_limits"]]
    chosen = {
        "limits": min(fitting, key=lambda made: float(made["latency"]["mean_ms"])),
        "knee": min(
            verified, key=lambda made: made["latency"]["mean_ms"] * 0.02 - made["accuracy"]["confirm"]["value"]
        ),
        "fastest": min(verified, key=lambda made: float(made["latency"]["mean_ms"])),
        "smallest": min(verified, key=lambda made: int(made["size"]["bytes"])),
        "safest": max(verified, key=lambda made: float(made["accuracy"]["confirm"]["value"])),
    }
    for name in ("limits", "knee", "fastest"):
        chosen[name]["accuracy"]["test"] = scored(chosen[name]["accuracy"]["confirm"]["value"] - 0.002)
    reasons = {
        "limits": "fastest member certified within 1 pt",
        "knee": "farthest from the line between the extremes",
        "fastest": "lowest mean latency",
        "smallest": "fewest bytes",
        "safest": "smallest accuracy drop on confirm",
    }
    return [
        {
            "name": name,
            "key": made["key"],
            "certified": name == "limits",
            "reason": reasons[name],
            "rows_needed": None if name == "limits" else 4500,
        }
        for name, made in chosen.items()
    ]


def trials(found: dict[str, Any], rng: random.Random, n: int = 130) -> list[dict[str, Any]]:
    """Rows of trials.csv from two workers: the members and many dominated designs, three failures, one stopped."""
    free = [START, START]
    rows = []
    for index in range(n):
        worker = min(range(2), key=lambda slot: free[slot])
        seconds = rng.uniform(0.6, 1.4)
        state = "failed" if index in (40, 60, 99) else "stopped" if index == 80 else "complete"
        known = found["members"][index] if index < len(found["members"]) else None
        rows.append(
            {
                "key": known["key"] if known else f"{rng.getrandbits(64):016x}",
                "study": "search",
                "state": state if known is None else "complete",
                "attempts": 1,
                "knobs": json.dumps({"prune.cut": round(rng.random(), 2)}),
                "objectives": json.dumps(_objectives(known, rng) if state == "complete" or known else {}),
                "extras": json.dumps({"accuracy": 0.84, "accuracy_drop": round(rng.uniform(-0.003, 0.15), 4)}),
                "started": iso(free[worker]),
                "ended": iso(free[worker] + seconds),
                "seconds": round(seconds, 3),
                "node": "host-1",
                "error": "OutOfMemory: the worker was killed" if state == "failed" and known is None else "",
            }
        )
        free[worker] += seconds + 0.05
    return rows


def iso(seconds: float) -> str:
    """A time as trials.csv writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _objectives(known: dict[str, Any] | None, rng: random.Random) -> dict[str, float]:
    if known is not None:
        return {"kl": 0.02, "latency": known["latency"]["mean_ms"], "size": float(known["size"]["bytes"])}
    return {
        "kl": round(rng.uniform(0.01, 0.6), 4),
        "latency": round(rng.uniform(0.8, 5), 3),
        "size": float(rng.randrange(7_000_000, 90_000_000)),
    }


def write_run(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Write the plain files of an invented run; returns the contents of front.json."""
    rng = random.Random(seed)
    found = front(rng)
    folder.mkdir(parents=True, exist_ok=True)
    write_front(folder, found)
    write_trials(folder, trials(found, rng))
    env = {
        "commit": "0123abc",
        "machine": "a laptop of two cores",
        "versions": {"python": "3.11.9", "onnxruntime": "1.31.1"},
    }
    (folder / "env.json").write_text(json.dumps(env))
    (folder / "config.resolved.yaml").write_text("model: minilm\ntask: {name: movie-reviews, metric: accuracy}\n")
    return found


def write_front(folder: Path, found: dict[str, Any]) -> None:
    """Write front.json alone."""
    (folder / "front.json").write_text(json.dumps(found))


def write_trials(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write trials.csv alone."""
    with (folder / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
