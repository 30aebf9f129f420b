"""Cascades: a cheap model first, larger ones on doubt. Knows stages and confidence; neither chooses nor writes one.

A stage's confidence in a row is the largest probability of softmax(logits / temperature). A row that a stage is
confident enough of leaves with its answer, the others go on to the next one; the last stage answers the rest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.answers import Prediction, predictions
from evaluators.artifact import DESIGN, Artifact
from evaluators.base import Judgement
from evaluators.metrics.accuracy import correct
from evaluators.metrics.calibration import fit_temperature
from evaluators.problems.base import Labels, Outputs
from evaluators.tasks.base import Encoded, Rows, Text
from evaluators.tasks.linear import WEIGHTS, LinearBaseline
from spaces.errors import ModelError

CASCADE = "cascade.json"
Model: TypeAlias = Artifact | LinearBaseline

_CURE = "Give a folder written by `paretoformer select --export`."


@dataclass(frozen=True)
class Stage:
    """One model of a cascade.

    Args:
        folder: its name within the cascade's.
        temperature: divides its logits.
        threshold: the least confidence with which its answer stands; None for the last stage, whose answers all do.
    """

    folder: str
    temperature: float
    threshold: float | None = None

    def confident(self, logits: Outputs) -> NDArray[np.bool_]:
        """Per row of logits (rows, classes) whether this stage's answer stands."""
        if self.threshold is None:
            return np.ones(len(logits), dtype=np.bool_)
        return confidence(logits, self.temperature) >= self.threshold


def numbered(temperatures: Sequence[float], thresholds: Sequence[float]) -> tuple[Stage, ...]:
    """Stages in the folders stage-0, stage-1, ...; one threshold fewer than temperatures."""
    pairs = zip(temperatures, (*thresholds, None), strict=True)
    return tuple(Stage(f"stage-{number}", *pair) for number, pair in enumerate(pairs))


def confidence(logits: Outputs, temperature: float) -> NDArray[np.float64]:
    """Largest probability of softmax(logits / temperature), per row of (rows, classes)."""
    below = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64) / temperature
    return np.asarray(1 / np.exp(below).sum(axis=-1))


def judged(logits: Mapping[str, Outputs], labels: Mapping[str, Labels]) -> Judgement:
    """A model's logits by split, `calibration` among them, against the labels."""
    temperature = fit_temperature(logits["calibration"], labels["calibration"])
    return Judgement(
        temperature,
        {split: confidence(rows, temperature) for split, rows in logits.items()},
        {split: correct(rows, labels[split]) for split, rows in logits.items()},
    )


def answers(logits: Sequence[Outputs], stages: Sequence[Stage]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What a cascade answers, from logits (rows, classes) of every stage on every row.

    Returns:
        Per row the logits of the stage that answers over its temperature, and the number of that stage. Equal to
        `Cascade.logits` where a model's logits do not depend on the batch; those of dynamic int8 do.
    """
    scaled = np.stack([rows / stage.temperature for rows, stage in zip(logits, stages, strict=True)])  # (S, R, C)
    stands = np.stack([stage.confident(rows) for rows, stage in zip(logits, stages, strict=True)])  # (S, R)
    answering = stands.argmax(axis=0)
    return scaled[answering, np.arange(len(answering))].astype(np.float32), answering


@dataclass(frozen=True)
class Cascade:
    """An exported cascade, opened.

    Args:
        stages: in order.
        models: one per stage; a linear baseline may be the first.
        classes: names of the classes, in the order of the logits.
        max_length: tokens beyond it are cut.
        design: the whole of design.json.
    """

    stages: tuple[Stage, ...]
    models: tuple[Model, ...]
    classes: tuple[str, ...]
    max_length: int
    design: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1, device: str = "cpu") -> "Cascade":
        """Load an exported folder; nothing is downloaded.

        Raises:
            ModelError: `folder` is not an exported cascade.
        """
        try:
            design = json.loads((folder / DESIGN).read_text())
            stages = tuple(Stage(**stage) for stage in json.loads((folder / CASCADE).read_text())["stages"])
            classes, max_length = tuple(design["classes"]), int(design["max_length"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder} is not a whole exported cascade: {error!r}. {_CURE}") from error
        sources = [folder / stage.folder for stage in stages]
        check(stages, sources)
        models = tuple(open_stage(source, threads=threads, device=device) for source in sources)
        return cls(stages, models, classes, max_length, design)

    def encode(self, texts: Sequence[Text]) -> tuple[Encoded | None, ...]:
        """The texts as each stage's tokenizer writes them; None for a stage that reads the texts themselves."""
        return tuple(encoded_for(model, texts) for model in self.models)

    def logits(
        self, texts: Sequence[Text], encoded: Sequence[Encoded | None] | None = None, batch_size: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The answers to texts; the rows that go on to a stage are put together in full batches again.

        Args:
            texts: one per row.
            encoded: what `encode` gave for them; None: each stage tokenises what reaches it.
            batch_size: rows per call of a model.

        Returns:
            In the rows' order, logits (rows, classes) of the stage that answered over its temperature, so that their
            softmax is its confidence, and the number of that stage (rows,).
        """
        answered = np.empty((len(texts), len(self.classes)), dtype=np.float32)
        answering = np.empty(len(texts), dtype=np.int64)
        waiting = list(range(len(texts)))
        for number, (stage, model) in enumerate(zip(self.stages, self.models, strict=True)):
            if not waiting:
                break
            tokens = None if encoded is None else encoded[number]
            asked = texts, tokens
            if len(waiting) < len(texts):
                asked = [texts[row] for row in waiting], None if tokens is None else tokens.take(waiting)
            found = logits_of(model, *asked, batch_size)
            answered[waiting] = found / stage.temperature  # of rows that go on, overwritten by the next stage
            answering[waiting] = number
            waiting = [row for row, stands in zip(waiting, stage.confident(found).tolist(), strict=True) if not stands]
        return answered, answering

    def predict(self, texts: Sequence[Text], batch_size: int = 1) -> list[Prediction]:
        """One prediction per text, in order; its score is the confidence of the stage that answered."""
        logits, _ = self.logits(texts, batch_size=batch_size)
        return predictions(logits, self.classes)


def check(stages: Sequence[Stage], sources: Sequence[Path]) -> None:
    """Raise ModelError unless stages, with the folders of their models, make a cascade."""
    *first, last = [stage.threshold for stage in stages] or [None]
    if not first or None in first or last is not None:
        raise ModelError(f"A cascade has two or more stages, each but the last with a threshold; found {list(stages)}.")
    if len(sources) != len(stages):
        raise ModelError(f"{len(sources)} models for {len(stages)} stages of a cascade. Give one per stage.")
    for number, source in enumerate(sources):
        single = (source / DESIGN).is_file() and not (source / CASCADE).exists()
        if not single and not (number == 0 and is_linear(source)):
            raise ModelError(
                f"{source} cannot be stage {number}: an exported single model can, a linear baseline as stage 0 only."
            )


def is_linear(folder: Path) -> bool:
    """Whether a folder is a linear baseline's."""
    return (folder / WEIGHTS).is_file()


def open_stage(folder: Path, *, threads: int = 1, device: str = "cpu") -> Model:
    """Load the folder of a single model, exported or a linear baseline's."""
    return LinearBaseline.load(folder) if is_linear(folder) else Artifact.open(folder, threads=threads, device=device)


def encoded_for(model: Model, texts: Sequence[Text]) -> Encoded | None:
    """The texts as a stage's tokenizer writes them; None for one that reads the texts themselves."""
    if isinstance(model, LinearBaseline):
        return None
    return model.encode(Rows(tuple(texts), (0,) * len(texts)))


def logits_of(model: Model, texts: Sequence[Text], tokens: Encoded | None, batch_size: int) -> NDArray[np.float32]:
    """Outputs (rows, classes) of one stage; without tokens it tokenises the texts."""
    if isinstance(model, LinearBaseline):
        return model.logits(texts)
    known = encoded_for(model, texts) if tokens is None else tokens
    assert known is not None, "only a linear baseline reads texts"
    return model.logits(known, batch_size)
