"""Folders of files as tasks: what is read, how it is split, and every kind of bad folder."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import Wav2Vec2FeatureExtractor

from evaluators import media
from evaluators.media import FileReader, Files, check_file, check_medium, open_reader
from evaluators.metrics.accuracy import Metric
from evaluators.models import class_names, load_classifier
from evaluators.tasks.base import Rows, encode
from evaluators.tasks.folders import FolderTask, UnlabeledFolder
from search.config import RunConfig
from spaces.errors import ConfigError, DataError, ModelError
from spaces.medium import IMAGE, SOUND, TEXT, Medium
from tests.tiny_files import SIDES, image, write_image_model, write_images, write_sound_model, write_sounds

SPLITS = ("train", "calibration", "search", "confirm", "test")
ACCURACY = Metric("accuracy")


def task(folder: Path, classes: tuple[str, ...] = ()) -> FolderTask:
    return FolderTask(folder, classes, ACCURACY)


def rows_by_split(known: FolderTask, seed: int = 0) -> dict[str, Rows]:
    return {name: getattr(known.splits(seed), name) for name in SPLITS}


def test_folders_are_classes_and_splits_are_disjoint_stratified_and_seeded(tmp_path: Path) -> None:
    known = task(write_images(tmp_path / "images"))
    assert (known.name, known.medium, known.classes, known.metric.name) == ("images", IMAGE, SIDES, "accuracy")
    splits = rows_by_split(known)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 108,
        "calibration": 24,
        "search": 36,
        "confirm": 36,
        "test": 36,
    }
    texts = [text for rows in splits.values() for text in rows.texts]
    assert len(set(texts)) == len(texts) == 240
    for rows in splits.values():
        assert [SIDES[int(str(label))] for label in rows.labels] == [Path(str(text)).parent.name for text in rows.texts]
        assert sum(map(int, map(str, rows.labels))) * 2 == len(rows)
    assert rows_by_split(known) == splits
    assert rows_by_split(known, seed=1) != splits


def test_what_rows_are_known_by_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    first = task(write_images(tmp_path / "one")).splits(0)
    second = task(shutil.copytree(tmp_path / "one", tmp_path / "two" / "moved")).splits(0)
    assert first.search.texts != second.search.texts
    assert first.search.sha256 == second.search.sha256 != first.confirm.sha256


def test_equal_files_are_one_row_and_none_where_their_classes_differ(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    shutil.copy(folder / "left" / "0.png", folder / "left" / "again.png")
    shutil.copy(folder / "left" / "2.png", folder / "top" / "disputed.png")
    texts = [Path(str(text)).name for rows in rows_by_split(task(folder)).values() for text in rows.texts]
    assert len(texts) == 239
    assert len({"0.png", "again.png"} & set(texts)) == 1
    assert not {"2.png", "disputed.png"} & set(texts)


def test_files_under_test_are_the_test_split_and_in_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_images(folder / "train")
    write_images(folder / "test", rows=60, seed=1)
    shutil.copy(folder / "test" / "left" / "0.png", folder / "train" / "left" / "leaked.png")
    known = task(folder)
    assert known.classes == SIDES
    parts = {name: {Path(str(text)).parts[-3] for text in rows.texts} for name, rows in rows_by_split(known).items()}
    assert parts == {name: {"test" if name == "test" else "train"} for name in SPLITS}
    assert len(known.splits(0).test) == 60
    assert "leaked.png" not in {Path(str(text)).name for rows in rows_by_split(known).values() for text in rows.texts}


@pytest.mark.parametrize("classes", [("top", "left"), ("Top", "other", "Left")])
def test_folders_that_are_called_as_the_model_calls_its_classes_are_numbered_as_there(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    known = task(write_images(tmp_path / "images"), classes)
    assert known.classes == classes
    train = known.splits(0).train
    assert {classes[int(str(label))].lower() for label in train.labels} == set(SIDES)
    for text, label in zip(train.texts, train.labels, strict=True):
        assert classes[int(str(label))].lower() == Path(str(text)).parent.name


def test_a_model_of_other_and_more_classes_gets_a_new_head(tmp_path: Path) -> None:
    assert task(write_images(tmp_path / "images"), ("ant", "bee", "cat")).classes == SIDES


@pytest.mark.parametrize("classes", [("left", "right"), ("cat", "dog")])
def test_classes_that_the_model_does_not_know_are_refused(tmp_path: Path, classes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=rf"has the class '\w+', the model answers {', '.join(classes)}\. Name the"):
        task(write_images(tmp_path / "images"), classes)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for file in write_images(tmp_path / "images").rglob("*.png"):
        file.rename(tmp_path / "images" / file.name)
    shutil.rmtree(tmp_path / "images" / "left")
    shutil.rmtree(tmp_path / "images" / "top")
    known = UnlabeledFolder(tmp_path / "images", ("a", "b"))
    splits = known.splits(0)
    assert (known.classes, splits.train.labels, len(splits.train)) == (("a", "b"), (), 108)


def bad_folder(folder: Path, kind: str) -> Path:
    """A folder with one thing wrong."""
    if kind == "empty":
        folder.mkdir()
        return folder
    write_images(folder, rows=40 if kind == "few" else 120)
    if kind == "one class":
        shutil.rmtree(folder / "top")
    elif kind == "corrupt":
        (folder / "left" / "0.png").write_bytes((folder / "left" / "0.png").read_bytes()[:-40])
    elif kind == "no image":
        (folder / "left" / "0.png").write_text("hello")
    elif kind == "unknown":
        (folder / "left" / "notes.txt").write_text("hello")
    elif kind == "deep":
        shutil.move(folder / "left", folder / "more" / "left" / "again")
    elif kind == "flat":
        shutil.move(folder / "left" / "0.png", folder / "0.png")
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", r"bad holds no files\. Write FOLDER/CLASS/FILE"),
        ("few", r"bad has 40 rows; at least 50 are needed\. Add rows\."),
        ("one class", r"bad: every row has the label 'left'\. A classifier needs at least two classes\."),
        ("corrupt", r"left/0\.png is no image that Pillow reads \(.+\)\. Mend or remove it\."),
        ("no image", r"left/0\.png is no image that Pillow reads \(.+\)\. Mend or remove it\."),
        ("unknown", r"notes\.txt ends in '\.txt'; known are \.png, .+\. Convert it, or move it elsewhere\."),
        ("deep", r"again/\d+\.png is not in the folder of a class\. Write FOLDER/CLASS/FILE"),
        ("flat", r"bad/0\.png is not in the folder of a class\. Write FOLDER/CLASS/FILE"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        task(bad_folder(tmp_path / "bad", kind))
    assert "\n" not in str(raised.value)


def test_hidden_files_are_no_rows(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "left" / ".DS_Store").write_text("")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.png").write_text("")
    assert sum(map(len, rows_by_split(task(folder)).values())) == 240


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder .+nowhere\. Give the path"):
        task(tmp_path / "nowhere")


def test_an_image_is_read_as_the_model_s_processor_reads_it(tmp_path: Path) -> None:
    """Against the processor's own arithmetic, written out: resize, to 0..1, minus mean, over deviation."""
    folder = write_image_model(tmp_path / "model")
    file = tmp_path / "image.png"
    image(0, np.random.default_rng(0)).convert("RGB").save(file)
    reader = open_reader(folder, IMAGE)
    found = reader(str(file))
    small = Image.open(file).convert("L").resize((16, 16), Image.Resampling.BILINEAR)
    expected = (np.asarray(small, np.float32) / 255 - 0.5) / 0.5
    assert set(found) == {"pixel_values"}
    np.testing.assert_allclose(found["pixel_values"], expected[None], atol=1e-6)
    model, loaded = load_classifier(str(folder), ("a", "b", "c"))
    assert isinstance(loaded, FileReader)
    assert loaded.sha256 == reader.sha256
    with torch.inference_mode():
        assert model(torch.from_numpy(found["pixel_values"])[None]).logits.shape == (1, 3)


def test_files_are_read_when_they_are_wanted_and_kept_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images", rows=6)
    reader = open_reader(write_image_model(tmp_path / "model"), IMAGE)
    opened: list[Path] = []
    read = media._READERS[IMAGE.name]
    monkeypatch.setitem(
        media._READERS, IMAGE.name, lambda processor, path: (opened.append(path), read(processor, path))[1]
    )
    monkeypatch.setattr(media, "_MOST_BYTES", 2 * 16 * 16 * 4)  # of two images
    paths = sorted(map(str, folder.rglob("*.png")))
    rows = encode(Rows(tuple(paths), (0,) * 6), reader, max_length=0)
    assert isinstance(rows.inputs, Files)
    assert rows.lengths == (16,) * 6
    assert len(opened) == 1  # for its shape
    (batch,) = rows.take([4, 2]).batches(8)
    np.testing.assert_array_equal(
        batch["pixel_values"], [reader(paths[4])["pixel_values"], reader(paths[2])["pixel_values"]]
    )
    assert len(opened) == 3
    reader(paths[0])
    assert len(opened) == 4  # it had to go


def write_tone(file: Path, rate: int, seconds: float, hertz: float = 100.0) -> np.ndarray:
    """A pure tone in a file; returns it."""
    wave = np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)
    soundfile.write(file, wave, rate, subtype="FLOAT" if file.suffix == ".wav" else None)
    return wave


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("rate", [2000, 4410, 8000])
def test_a_sound_of_any_rate_is_read_in_the_model_s(tmp_path: Path, suffix: str, rate: int) -> None:
    """A tone in another rate is the tone in the model's own, but for the ends, where a filter sees silence."""
    reader = FileReader(SOUND, Wav2Vec2FeatureExtractor(sampling_rate=2000, do_normalize=False))
    write_tone(tmp_path / f"tone{suffix}", rate, 0.2)
    expected = write_tone(tmp_path / "own.wav", 2000, 0.2)
    (found,) = reader(str(tmp_path / f"tone{suffix}")).values()
    assert (found.shape, found.dtype) == ((400,), np.float32)
    assert reader.lengths([str(tmp_path / f"tone{suffix}")]) == (400,)
    np.testing.assert_allclose(found[50:-50], expected[50:-50], atol=0.02)


def test_channels_of_a_sound_are_put_together(tmp_path: Path) -> None:
    reader = FileReader(SOUND, Wav2Vec2FeatureExtractor(sampling_rate=2000, do_normalize=False))
    wave = write_tone(tmp_path / "one.wav", 2000, 0.2)
    soundfile.write(tmp_path / "two.wav", np.stack([wave, 0 * wave], axis=1), 2000, subtype="FLOAT")
    np.testing.assert_allclose(reader(str(tmp_path / "two.wav"))["input_values"], wave / 2, atol=1e-6)


def test_waves_of_unlike_lengths_are_never_padded(tmp_path: Path) -> None:
    folder = write_sounds(tmp_path / "sounds", rows=9)
    reader = open_reader(write_sound_model(tmp_path / "model"), SOUND)
    paths = sorted(map(str, folder.rglob("*.wav")))
    rows = encode(Rows((*paths, paths[-1]), (0,) * 10), reader, max_length=0)
    assert rows.lengths == tuple(len(row["input_values"]) for row in rows.inputs)
    batches = list(rows.batches(4))
    assert [len(batch["input_values"]) for batch in batches] == [1] * 8 + [2]
    for batch, row in zip(batches, rows.inputs, strict=False):
        np.testing.assert_array_equal(batch["input_values"][0], row["input_values"])


def test_spectrograms_are_of_one_size(tmp_path: Path) -> None:
    folder = write_sounds(tmp_path / "sounds", rows=5)
    reader = open_reader(write_sound_model(tmp_path / "model", "ast"), SOUND)
    rows = encode(Rows(tuple(map(str, sorted(folder.rglob("*.wav")))), (0,) * 5), reader, max_length=0)
    (batch,) = rows.batches(8)
    assert batch["input_values"].shape == (5, 24, 16)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", r"0\.wav lasts 0 ms, expected at least 50\. Remove it\."),
        ("short", r"0\.wav lasts 10 ms, expected at least 50\. Remove it\."),
        ("damaged", r"0\.wav is no sound that libsndfile reads \(.+\)\. Mend or remove it\."),
        ("mixed", r"holds files of several kinds: .+ is of image, .+ of sound\. Keep those of one kind\."),
    ],
)
def test_sounds_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, kind: str, message: str) -> None:
    folder = write_sounds(tmp_path / "sounds", rows=60)
    file = folder / "high" / "0.wav"
    if kind == "damaged":
        file.write_bytes(b"RIFF")
    elif kind == "mixed":
        write_images(folder, rows=2, classes=("high", "low"))
    else:
        soundfile.write(file, np.zeros(0 if kind == "empty" else 80), 8000)
    with pytest.raises(DataError, match=message) as raised:
        task(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"space": {"vocabulary": {}}}, "space.vocabulary"),
        ({"space": {"compression": {}}}, "space.compression"),
        ({"verify": {"cascades": 2}}, "verify.cascades"),
        ({"recover": {"unlabeled": "more.txt"}}, "recover.unlabeled"),
        ({"finetune": {"max_length": 64}}, "finetune.max_length"),
        ({"target": {"lengths": 32}}, "target.lengths"),
        ({"target": "device.json"}, "target.profile"),
    ],
)
def test_what_is_about_words_is_refused(tmp_path: Path, content: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"{named} is about texts, and .+ is a folder of files; leave it out"):
        RunConfig.parse({"task": {"folder": str(tmp_path)}, **content})


def test_a_folder_of_folders_has_labels_and_a_flat_one_has_none(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", rows=4)
    for asked in (str(folder), {"data": str(folder)}):
        found = RunConfig.parse({"task": asked}).task
        assert (found.folder, found.data, found.metric) == (str(folder), None, "accuracy")
    flat = RunConfig.parse({"task": {"data": str(folder / "left")}}).task
    assert (flat.folder, flat.data, flat.metric) == (None, str(folder / "left"), "agreement")


@pytest.mark.parametrize(("names", "found"), [((), ()), (("ant", "bee", "cat"), ("ant", "bee", "cat"))])
def test_classes_that_nobody_named_are_no_names(tmp_path: Path, names: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert class_names(str(write_image_model(tmp_path / "model", classes=names))) == found


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .+x\.png"):
        check_file(tmp_path / "x.png", IMAGE)


@pytest.mark.parametrize(("asked", "own"), [(TEXT, IMAGE), (IMAGE, TEXT)])
def test_a_model_of_other_rows_is_refused(asked: Medium, own: Medium) -> None:
    with pytest.raises(ModelError, match=rf"M reads {own.name} rows, expected a model of {asked.name} rows"):
        check_medium(asked, own, "M")
