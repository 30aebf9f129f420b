"""A point of a space (Design) and what it means (Member). Knows keys; knows nothing of models."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from spaces.errors import DesignError
from spaces.knobs import Scalar


def content_key(content: object) -> str:
    """The first 16 hex digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Design(Mapping[str, Scalar]):
    """An immutable mapping from knob names to scalars."""

    __slots__ = ("_knobs",)
    _knobs: Mapping[str, Scalar]

    def __init__(self, knobs: Mapping[str, Scalar]) -> None:
        for name, value in knobs.items():
            if not isinstance(value, bool | int | float | str):
                raise DesignError(
                    f"{name}={value!r} is a {type(value).__name__}; a knob's value is a bool, int, float or str."
                )
        object.__setattr__(self, "_knobs", MappingProxyType(dict(sorted(knobs.items()))))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"A Design is immutable; build a new one instead of setting {name!r}.")

    def __getitem__(self, name: str) -> Scalar:
        return self._knobs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._knobs)

    def __len__(self) -> int:
        return len(self._knobs)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Design) and self.key == other.key

    def __repr__(self) -> str:
        return f"Design({dict(self._knobs)})"

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Scalar]]]:
        return type(self), (dict(self._knobs),)

    @property
    def key(self) -> str:
        """Hash of the canonical JSON; the same in every process."""
        return content_key(dict(self._knobs))


class Config(Protocol):
    """What one compression family does to a model: frozen, typed, applied by an evaluator."""

    family: ClassVar[str]

    def to_decoded(self) -> dict[str, Any]:
        """This family's share of the decoded design: {"layers": [...], "embeddings": {...}, ...}."""
        ...

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        """The config that a whole decoded design holds for this family."""
        ...


C = TypeVar("C")


@dataclass(frozen=True)
class Member:
    """One concrete model: what each family does to which weights.

    Args:
        configs: one config per family, in the order in which they are applied.
        weights: `finetuned`, or the id of other weights (`icpc:HASH`, `recovered:HASH`).
    """

    configs: tuple[Config, ...]
    weights: str = "finetuned"

    @cached_property
    def key(self) -> str:
        """Names this model everywhere: duplicates, caches, models/KEY, front.json."""
        return content_key({"decoded": self.decoded, "weights": self.weights})

    @property
    def decoded(self) -> dict[str, Any]:
        """All families' shares side by side: one entry per layer, null where the layer is gone."""
        shares: dict[str, Any] = {}
        for config in self.configs:
            shares = merged(shares, config.to_decoded())
        return shares

    def config(self, kind: type[C]) -> C:
        """The config of type `kind`; KeyError if this member has none."""
        for config in self.configs:
            if isinstance(config, kind):
                return config
        raise KeyError(f"{kind.__name__} is not among {[type(c).__name__ for c in self.configs]}")


def merged(left: Any, right: Any) -> Any:
    """Two families' shares as one; a layer that is gone (None) stays gone."""
    if left is None or right is None:
        return None
    if isinstance(left, dict):
        both = {name: merged(left[name], right[name]) for name in left if name in right}
        return {**left, **right, **both}
    return [merged(a, b) for a, b in zip(left, right, strict=True)]
