"""Tiny folders of files by class, and tiny random models that read them. Knows sizes; knows nothing of tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import PreTrainedConfig, ViTImageProcessorPil

from tests.tiny_models import tiny

SIDES = ("left", "top")


def image(label: int, rng: np.random.Generator) -> Image.Image:
    """Noise, brighter on the left (0) or at the top (1)."""
    values = rng.integers(0, 120, (18, 18))
    values[(slice(None), slice(9)) if label == 0 else slice(9)] += 80
    return Image.fromarray(values.astype(np.uint8))


def write_images(folder: Path, rows: int = 240, seed: int = 0, classes: Sequence[str] = SIDES) -> Path:
    """`FOLDER/CLASS/*.png`, as many of each class."""
    rng = np.random.default_rng(seed)
    for row in range(rows):
        label = row % 2
        file = folder / classes[label] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image(label, rng).save(file)
    return folder


def write_image_model(folder: Path, family: str = "vit", classes: Sequence[str] = ()) -> Path:
    """A random classifier of images with its processor; of three classes that nobody named unless they are given."""
    model = tiny(family)[0]
    name_classes(model.config, classes)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.5], image_std=[0.5]).save_pretrained(folder)
    return folder


def name_classes(config: PreTrainedConfig, classes: Sequence[str]) -> None:
    """What its outputs are called; nothing changes without names."""
    if classes:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: index for index, name in enumerate(classes)}
