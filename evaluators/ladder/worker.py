"""Instances that only the ladder serves: a checkpoint on padded inputs, and the linear baseline. Knows these kinds.

Started by pool.py in place of instance_worker.py; like that one it loads libraries only once it is pinned.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.instance_worker import Kept, Model, is_checkpoint, main
from evaluators.tasks.base import Text

if TYPE_CHECKING:
    from evaluators.pool import Setup

WORKER = "evaluators.ladder.worker"


def load(setup: "Setup") -> Model:
    """The folder's model, opened."""
    folder = Path(setup.folder)
    return _padded(folder, setup) if is_checkpoint(folder) else _linear(folder)


def _padded(folder: Path, setup: "Setup") -> Model:
    """A checkpoint in eager fp32 whose inputs are all filled up to `max_length` tokens."""
    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from evaluators.ladder.padding import padded
    from evaluators.runtimes.torch import TorchPredictor
    from evaluators.tasks.base import Rows, encode

    torch.set_num_threads(setup.threads)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()
    predictor, length = TorchPredictor(model, torch.device("cpu")), setup.max_length
    assert length is not None, "padding needs a length"

    def keep(texts: Sequence[Text]) -> Kept:
        rows = padded(encode(Rows(tuple(texts), (0,) * len(texts)), tokenizer, length), length)
        return lambda numbers, size: np.concatenate([predictor(call) for call in rows.take(numbers).batches(size)])

    classes = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
    return Model(classes, lambda texts, size: keep(texts)(range(len(texts)), size), keep)


def _linear(folder: Path) -> Model:
    from evaluators.tasks.linear import LinearBaseline

    baseline = LinearBaseline.load(folder)

    def keep(texts: Sequence[Text]) -> Kept:
        return lambda numbers, _: baseline.logits([texts[number] for number in numbers])

    classes = tuple(str(index) for index in range(len(baseline.intercept)))
    return Model(classes, lambda texts, _: baseline.logits(texts), keep)


if __name__ == "__main__":
    main(load)
