"""The kinds of things that rows are of, and what the Hugging Face libraries call what reads them. Knows names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Medium:
    """One kind.

    Args:
        name: in messages and in design.json.
        pipeline: the task in the Hub whose rows are classified.
        model: class of transformers that opens a classifier.
        heads: ends of the class names of such classifiers.
        processor: class of transformers that opens what makes a model's inputs of rows.
        suffixes: of files with a row each; none where rows are no files.
    """

    name: str
    pipeline: str
    model: str
    heads: tuple[str, ...]
    processor: str
    suffixes: tuple[str, ...] = ()

    @property
    def of_files(self) -> bool:
        """Whether a row is a file, and its text the file's path."""
        return bool(self.suffixes)


TEXT = Medium(
    "text", "text-classification", "AutoModelForSequenceClassification", ("ForSequenceClassification",), "AutoTokenizer"
)
IMAGE = Medium(
    "image",
    "image-classification",
    "AutoModelForImageClassification",
    ("ForImageClassification", "ForImageClassificationWithTeacher"),
    "AutoImageProcessor",
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
)
SOUND = Medium(
    "sound",
    "audio-classification",
    "AutoModelForAudioClassification",
    ("ForAudioClassification", "ForSequenceClassification"),
    "AutoFeatureExtractor",
    (".wav", ".flac", ".ogg", ".mp3"),
)
MEDIA = {each.name: each for each in (TEXT, IMAGE, SOUND)}


def medium_in(design: Mapping[str, Any]) -> Medium:
    """What the rows are of that a design.json speaks of; older exports, and cascades, are of texts."""
    return MEDIA[design.get("medium", TEXT.name)]


def medium_of_file(path: PurePath) -> Medium | None:
    """What a file of that name holds a row of; None where it is no such file."""
    return next((each for each in MEDIA.values() if path.suffix.lower() in each.suffixes), None)
