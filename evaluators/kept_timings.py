"""Latencies that outlive their session: an exported model that was timed here lately is not timed again.

Knows folders, ages and drift; knows nothing of clocks. A machine that is faster today than it was then is told by the
original, which every session times: its latency now over its latency then scales what is taken from the store.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluators.base import Band, Timing
from evaluators.store import LATENCY, Store
from evaluators.tasks.base import Text
from spaces.design import content_key
from spaces.target import Target


@dataclass(frozen=True)
class KeptTimings:
    """Timings by what they depend on.

    Args:
        store: where they are.
        max_age: seconds after which one is not believed any more.
        node: where timings are made.
        fair: folder of the original, which every session times.
        target: where models run.
        texts: the timed rows.
    """

    store: Store
    max_age: float
    node: str
    fair: Path
    target: Target
    texts: Sequence[Text]

    def find(self, folders: Mapping[str, Path]) -> "dict[str, Kept]":
        """By name what is known of the models in these folders."""
        found = {}
        for name, folder in folders.items():
            content = self.store.get(LATENCY, self._key(folder), self.max_age)
            known = {"timing": {}} if content is None else json.loads(content)
            if "bands" in known["timing"]:  # an older version kept none: timed again
                found[name] = Kept(_timing(known["timing"]), known["fair_ms"])
        return found

    def keep(self, folders: Mapping[str, Path], timings: Mapping[str, Timing]) -> None:
        """Remember what one session measured, `fair` among it."""
        for name, folder in folders.items():
            content = {"timing": asdict(timings[name]), "fair_ms": timings["fair"].mean_ms}
            self.store.put(LATENCY, self._key(folder), json.dumps(content).encode())

    @cached_property
    def _fair(self) -> dict[str, str]:
        return _hashed(self.fair)

    def _key(self, folder: Path) -> str:
        # Figures of another machine, even of the same make, are not believed.
        return content_key(
            {
                "model": _hashed(folder),
                "fair": self._fair,
                "target": self.target.key,
                "machine": self.node,
                "texts": list(self.texts),
            }
        )


@dataclass(frozen=True)
class Kept:
    """A timing, and what the original took in the same session."""

    timing: Timing
    fair_ms: float

    def now(self, fair_ms: float) -> Timing:
        """The timing as it would be where the original takes so long."""
        return self.timing.scaled(fair_ms / self.fair_ms)


def _timing(kept: Mapping[str, Any]) -> Timing:
    """A timing as it was before it became JSON."""
    bands = [
        Band(tuple(band["tokens"]), band["calls"], band["mean_ms"], _speedup(band["speedup"])) for band in kept["bands"]
    ]
    per_call = tuple(kept["per_call_ms"])
    return Timing(**{**kept, "speedup": _speedup(kept["speedup"]), "per_call_ms": per_call, "bands": tuple(bands)})


def _speedup(kept: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {base: tuple(triple) for base, triple in kept.items()}


def _hashed(folder: Path) -> dict[str, str]:
    """Hashes of all that may be run: models and tokenizers, without words about them."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in (".md", ".py")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
