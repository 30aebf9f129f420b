"""The rows of the ladder's table and its constants, as values. Knows folders by name; builds and measures nothing.

Kim and Awadalla 2020, "FastFormers: Highly Efficient Transformer Models for Natural Language Understanding" (arXiv
2010.13382). Every constant is a setting with the published value as its default, except where the setting says so.
"""

from dataclasses import dataclass

ORIGINAL, DISTILLED, INT8 = "01-original", "02-distilled", "03-int8"
PRUNED, PRUNED_FURTHER = "05-pruned", "06-pruned-further"
FAIR, ONE_LINER, LINEAR = "baseline/fair", "baseline/one_liner", "baseline/linear"


@dataclass(frozen=True)
class Cut:
    """Shares of the student's heads and FFN neurons that go, the same in every layer."""

    heads: float
    neurons: float


@dataclass(frozen=True)
class Settings:
    """Constants of the ladder.

    Args:
        layers: of the student; None: half of the original's (published: 4 of 12, narrower, and pre-trained as such).
        epochs: of each distillation at most; rows held out of train stop it earlier.
        learning_rate: of each distillation (published: 1e-5 with 4 rows per step and device; here a step has 32).
        hidden: weight of the squared error of the embeddings, and as much of the last hidden states.
        first, second: what is pruned from the distilled student.
        bearable: divergence in nats that 8 bits in one part alone may cause; parts above it keep 32.
        rounds, processes: of timing single calls.
        turns: of serving, each in fresh processes.
        seconds: at least so long is a turn.
    """

    layers: int | None = None
    epochs: int = 10
    learning_rate: float = 1e-4
    hidden: float = 0.1
    first: Cut = Cut(1 / 4, 1 / 4)
    second: Cut = Cut(1 / 3, 1 / 2)
    bearable: float = 0.01
    rounds: int = 9
    processes: int = 3
    turns: int = 5
    seconds: float = 3.0


@dataclass(frozen=True)
class Step:
    """A row of the table: a model and how it is served.

    Args:
        name: as published, where it was.
        change: what differs from the row before, in a few words.
        folder: of the model; steps that change only how it is served share one.
        padded: every input is filled up to the maximum length.
        per_core: served by one instance of one thread per core; else by one instance with a thread per core.
    """

    name: str
    change: str
    folder: str
    padded: bool = False
    per_core: bool = True

    @property
    def answers(self) -> str:
        """Names what it answers to one row, however many instances there are."""
        return self.folder.replace("/", "-") + ("-padded" if self.padded else "")


STEPS = (
    Step("padded", "PyTorch as it comes, every input padded", ORIGINAL, padded=True, per_core=False),
    Step("dynamic", "inputs at their real lengths", ORIGINAL, per_core=False),
    Step("distilled", "fewer layers, taught by the original", DISTILLED, per_core=False),
    Step("int8", "8 bits and graph optimisation in onnxruntime", INT8, per_core=False),
    Step("instances", "one instance per core", INT8),
    Step("pruned", "fewer heads and neurons, taught again", PRUNED),
    Step("pruned further", "still fewer of both, taught again", PRUNED_FURTHER),
)
BASELINES = (
    Step("pipeline", "the original in PyTorch, real lengths", ORIGINAL),
    Step("fair", "the original in onnxruntime, 32 bits", FAIR),
    Step("one_liner", "onnxruntime's quantize_dynamic", ONE_LINER),
    Step("linear", "TF-IDF and logistic regression", LINEAR),
)
