"""Which parts of a model bear few bits. Knows artefacts and their answers; knows nothing of labels or training.

One badly rounded part can ruin a model (FastFormers, arXiv 2010.13382, reports 57.2 % accuracy instead of 73.4 %), so
every part is narrowed alone first, and those that change the answers too much stay wide.
"""

from collections.abc import Collection
from dataclasses import dataclass

from evaluators.answering import Logits, run
from evaluators.base import Watch
from evaluators.problems.base import mean_divergence
from evaluators.runtimes.base import Runtime, Template
from evaluators.tasks.base import Encoded
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.design import Member
from spaces.shape import ModelShape
from spaces.target import Target

SENSITIVITY = "sensitivity.json"  # in a run's folder: `alone`, `wider` and `bearable` of the untouched model
BEARABLE = 0.01
_WIDE = 32


@dataclass(frozen=True)
class Sensitivity:
    """What was found.

    Args:
        alone: by part (`0.attention`, `0.ffn`, ..., `embeddings`, `head`) the mean KL divergence in nats from the wide
            model's answers when it alone is narrow.
        wider: the parts that stay wide.
        together: the divergence when all the others are narrow.
        quantization: their widths.
    """

    alone: dict[str, float]
    wider: tuple[str, ...]
    together: float
    quantization: Quantization


@dataclass(frozen=True)
class Check:
    """How sensitivity is looked for.

    Args:
        runtime: executes the widths.
        template: of the model.
        pruning: what is cut out of it.
        rows: tokenised; labels are not used.
        target: threads, batch and device of the answers.
        bits: the narrow width.
        bearable: divergence in nats up to which a part alone may change the answers.
    """

    runtime: Runtime
    template: Template
    pruning: Pruning
    rows: Encoded
    target: Target
    bits: int = 8
    bearable: float = BEARABLE

    def find(self, watch: Watch) -> Sensitivity:
        """Narrow every part alone, then all that bear it together."""
        names, wide = parts(self.template.shape), self._answers(())
        alone = {}
        for done, part in enumerate(names):
            watch("sensitivity", done, len(names))
            alone[part] = mean_divergence(self.rows.problem, wide, self._answers((part,)))
        narrow = [part for part in names if alone[part] <= self.bearable]
        wider = tuple(part for part in names if part not in narrow)
        together = mean_divergence(self.rows.problem, wide, self._answers(narrow))
        return Sensitivity(alone, wider, together, self._quantization(narrow))

    def _answers(self, narrow: Collection[str]) -> Logits:
        artefact = self.template.assemble(Member((self.pruning, self._quantization(narrow))))
        predictor = self.runtime.load(artefact, threads=self.target.threads, device=self.target.device)
        return run(predictor, self.rows, self.target.batch_size)

    def _quantization(self, narrow: Collection[str]) -> Quantization:
        def width(part: str) -> int:
            return self.bits if part in narrow else _WIDE

        layers = range(self.template.shape.layers)
        blocks = tuple(LayerBits(width(f"{layer}.attention"), width(f"{layer}.ffn")) for layer in layers)
        return Quantization(blocks, width("embeddings"), width("head"))


def parts(shape: ModelShape) -> tuple[str, ...]:
    """Names of the parts of a model that have a width of their own."""
    return (
        *(f"{layer}.{block}" for layer in range(shape.layers) for block in ("attention", "ffn")),
        "embeddings",
        "head",
    )
