"""Tiny folders of files by class, and tiny random models that read them. Knows sizes; knows nothing of tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from transformers import ASTFeatureExtractor, PreTrainedConfig, ViTImageProcessorPil, Wav2Vec2FeatureExtractor

from tests.tiny_models import tiny

SIDES, PITCHES = ("left", "top"), ("high", "low")
_RATE = 8000


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


def write_sounds(folder: Path, rows: int = 240, seed: int = 0, classes: Sequence[str] = PITCHES) -> Path:
    """`FOLDER/CLASS/*.wav` of 0.15 to 0.3 seconds, as many of each class; every fourth has two channels."""
    rng = np.random.default_rng(seed)
    for row in range(rows):
        label = row % 2
        seconds = np.arange(rng.integers(_RATE * 15 // 100, _RATE * 3 // 10)) / _RATE
        tone = np.sin(2 * np.pi * (600, 200)[label] * seconds + rng.uniform(0, 6))
        wave = 0.5 * tone + 0.1 * rng.normal(size=len(tone))
        file = folder / classes[label] / f"{row}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, np.stack([wave] * 2, axis=1) if row % 4 == 0 else wave, _RATE)
    return folder


def write_sound_model(folder: Path, family: str = "wav2vec2", classes: Sequence[str] = ()) -> Path:
    """A random classifier of sounds, of another sampling rate than `write_sounds` has, as `write_image_model`."""
    model = tiny(family)[0]
    name_classes(model.config, classes)
    model.save_pretrained(folder)
    spectrogram = ASTFeatureExtractor(max_length=model.config.max_length, num_mel_bins=16) if family == "ast" else None
    (spectrogram or Wav2Vec2FeatureExtractor(sampling_rate=2000)).save_pretrained(folder)
    return folder


def name_classes(config: PreTrainedConfig, classes: Sequence[str]) -> None:
    """What its outputs are called; nothing changes without names."""
    if classes:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: index for index, name in enumerate(classes)}
