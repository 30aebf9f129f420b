"""An exported model: a folder that runs by itself. Knows its files; knows nothing of how the model was found."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig

from evaluators.answers import Prediction as Prediction
from evaluators.answers import predictions, problem_in
from evaluators.example import FILE as EXAMPLE
from evaluators.example import example
from evaluators.media import FileReader, open_reader
from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from evaluators.problems.embeddings import EMBEDDINGS
from evaluators.problems.words import OF_WORDS, TokenClassification
from evaluators.runtimes.base import Predictor, Runtime
from evaluators.sentence_encoder import write_modules
from evaluators.tasks.base import Encoded, Rows, Text, encode, parted
from spaces.errors import DataError, ModelError
from spaces.medium import medium_in

DESIGN = "design.json"
# Per batch, padding included. Attention holds (batch, heads, T, T) scores: 0.2 GB for 12 heads at T = 512.
_MOST_TOKENS = 2**13
_CURE = "Give a folder written by `paretoformer select --export`."


@dataclass(frozen=True)
class Artifact:
    """An exported model, opened.

    Args:
        predictor: padded inputs to logits.
        tokenizer: of `transformers`, or what reads files for the model.
        classes: names of the classes, in the order of the logits.
        max_length: tokens beyond it are cut.
        design: the whole of design.json.
    """

    predictor: Predictor
    tokenizer: Any
    classes: tuple[str, ...]
    max_length: int
    design: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1, device: str = "cpu") -> "Artifact":
        """Load an exported folder; nothing is downloaded.

        Raises:
            ModelError: `folder` is not an exported model.
        """
        design = _read_design(folder)
        predictor = _runtime(design["filename"], folder).load(
            folder / design["filename"], threads=threads, device=device
        )
        tokenizer = open_reader(folder, medium_in(design), local_files_only=True)
        return cls(predictor, tokenizer, tuple(design["classes"]), int(design["max_length"]), design)

    def encode(self, rows: Rows) -> Encoded:
        """Tokenise at real lengths.

        Raises:
            DataError: single texts for a model of pairs, or pairs for one of single texts.
        """
        asked = 2 if self.design.get("pairs") else 1
        wrong = next((text for text in rows.texts if len(parted(text)) != asked), None)
        if wrong is not None:
            raise DataError(
                f"The model reads {'pairs of texts' if asked == 2 else 'single texts'}, found {wrong!r}. "
                f"Give {'both of them, --text and --pair' if asked == 2 else 'one, without --pair'}."
            )
        if self.problem == OF_WORDS and not rows.problem.words:
            rows = replace(rows, problem=TokenClassification.reading(rows.texts, self.classes))
        return encode(rows, self.tokenizer, self.max_length)

    def logits(self, encoded: Encoded, batch_size: int = 1) -> NDArray[np.float32]:
        """Logits (rows, classes) in the rows' order; batches are made of rows of like length."""
        order, logits = list[int](), list[NDArray[np.float32]]()
        for rows in batched(encoded.lengths, batch_size):
            order += rows
            logits += map(self.predictor, encoded.take(rows).batches(len(rows)))
        return (
            encoded.take(order).outputs(logits)[np.argsort(order)]
            if logits
            else np.zeros((0, len(self.classes)), np.float32)
        )

    @property
    def problem(self) -> str:
        """Its name."""
        return problem_in(self.design)

    def predict(self, texts: Sequence[Text], batch_size: int = 1) -> list[Prediction]:
        """One prediction per text, in order."""
        if not texts:
            return []
        logits = self.logits(self.encode(Rows(tuple(texts), (0,) * len(texts))), batch_size)
        return predictions(logits, self.classes, self.problem)


def batched(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices of rows in batches of at most `size` rows, sorted by length so that padding costs little.

    Args:
        lengths: tokens per row.
        size: rows per batch; a batch ends sooner where its padded tokens would exceed a bound that memory sets.
    """
    order = range(len(lengths)) if size == 1 else sorted(range(len(lengths)), key=lengths.__getitem__)
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[row] > _MOST_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def write(
    folder: Path,
    *,
    model_bytes: bytes,
    filename: str,
    tokenizer: Any,
    model_config: PreTrainedConfig,
    design: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write an exported model so that `folder` is at no time half of one; an older export in it is replaced.

    Args:
        folder: where to; its parents are made.
        model_bytes: the runtime's file.
        filename: its name.
        tokenizer: saved beside it, as what reads files is.
        model_config: the original's configuration.
        design: at least `filename`, `classes` and `max_length`.
        metrics: figures, if there are any.
        card: the model card's text, if there is one.

    Raises:
        ModelError: `folder` holds other files.
    """
    if folder.exists() and not (folder / DESIGN).is_file() and any(folder.iterdir()):
        raise ModelError(f"{folder} holds files that are not an exported model. Name another folder, or empty it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as staging:
        fresh = Path(staging) / "fresh"
        fresh.mkdir()
        (fresh / filename).write_bytes(model_bytes)
        save_tokenizer(fresh, tokenizer, int(design["max_length"]))
        model_config.save_pretrained(fresh)
        _write_json(fresh / DESIGN, design)
        if design.get("problem") == EMBEDDINGS.name:
            write_modules(fresh, model_config)
        if filename == "model.onnx":
            (fresh / EXAMPLE).write_text(
                example(problem_in(design), pairs=bool(design.get("pairs")), medium=medium_in(design))
            )
        if metrics is not None:
            _write_json(fresh / "metrics.json", metrics)
        if card is not None:
            (fresh / "README.md").write_text(card)
        if folder.exists():
            shutil.move(folder, Path(staging) / "old")
        fresh.rename(folder)


def save_tokenizer(folder: Path, tokenizer: Any, max_length: int) -> None:
    """The tokenizer's files, which say how long inputs may be: loaders cut texts where this model was measured."""
    tokenizer.save_pretrained(folder)
    if isinstance(tokenizer, FileReader):
        return
    path = folder / "tokenizer_config.json"
    _write_json(path, {**json.loads(path.read_text()), "model_max_length": max_length})


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes that inference needs without the tokenizer, and the tokenizer's bytes."""
    return inference_bytes(folder), tokenizer_bytes(folder)


def _read_design(folder: Path) -> dict[str, Any]:
    try:
        design: dict[str, Any] = json.loads((folder / DESIGN).read_text())
    except FileNotFoundError:
        raise ModelError(f"{folder} is not an exported model: it has no {DESIGN}. {_CURE}") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{folder / DESIGN} is not JSON: {error}. {_CURE}") from error
    missing = [name for name in ("filename", "classes", "max_length") if name not in design]
    if missing:
        raise ModelError(f"{folder / DESIGN} says nothing of {', '.join(missing)}. {_CURE}")
    if not (folder / design["filename"]).is_file():
        raise ModelError(f"{folder} is not a whole exported model: {design['filename']} is missing. {_CURE}")
    return design


def _runtime(filename: str, folder: Path) -> Runtime:
    """The runtime that wrote a file of that name; imported only here, so that one needs only one."""
    if filename == "model.onnx":
        from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

        return OnnxRuntime()
    if filename == "model.safetensors":
        from evaluators.runtimes.torch import TorchRuntime

        return TorchRuntime()
    raise ModelError(f"{folder} holds {filename}, expected model.onnx or model.safetensors. {_CURE}")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
