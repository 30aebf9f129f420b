"""Where a model will run. Part of every latency, size and int8 figure and of every cache key."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from spaces.design import content_key

Device: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Target:
    """A serving situation.

    Args:
        label: name in reports (`here`).
        device: `cpu` or `cuda`.
        processor: model and vector instruction set, as found; part of the key only.
        runtime: name of the runtime.
        runtime_version: its version.
        threads: threads one model may use.
        batch_size: rows per call.
        lengths: `real` (the task's own distribution), or a fixed number of tokens.
    """

    label: str = "here"
    device: Device = "cpu"
    processor: str = ""
    runtime: str = "onnxruntime"
    runtime_version: str = ""
    threads: int = 1
    batch_size: int = 1
    lengths: int | Literal["real"] = "real"

    @property
    def key(self) -> str:
        """Hash of everything that changes a figure (not of the label)."""
        return content_key({name: value for name, value in asdict(self).items() if name != "label"})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
