"""Files as a model's inputs, read when they are wanted. Knows images, sounds and their processors; knows no tasks.

A row is a file, its text the file's path, and what the model reads one array, which the model's own processor makes.
"""

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, ModelError
from spaces.medium import IMAGE, SOUND, Medium

Arrays: TypeAlias = dict[str, NDArray[Any]]

# Of arrays that a process keeps, so that rows which are read again and again need not be decoded each time.
_MOST_BYTES = 1 << 29
_SHORTEST_SECONDS = 0.05  # below, models of waves have no token


class FileReader:
    """From files of one medium to a model's input.

    Args:
        medium: of the files.
        processor: of transformers, the model's own.
    """

    def __init__(self, medium: Medium, processor: Any) -> None:
        self.medium = medium
        self.processor = processor
        self._kept: OrderedDict[str, Arrays] = OrderedDict()
        self._bytes = 0

    def __call__(self, path: str) -> Arrays:
        """The input by its name: pixel_values (channels, height, width), or input_values (frames, bins) or (samples,).

        Raises:
            DataError: no such file, or not one of the medium.
        """
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        name, read = self.processor.model_input_names[0], _READERS[self.medium.name]
        arrays = {name: np.asarray(read(self.processor, Path(path))[name][0])}
        self._keep(path, arrays)
        return arrays

    def lengths(self, paths: Sequence[str]) -> tuple[int, ...]:
        """The longest side of each file's array; two of equal length have the same shape."""
        if not paths:
            return ()
        (first,) = self(paths[0]).values()
        if first.ndim == 1:  # a wave, as long as the sound; all else is of the size that the model wants
            return tuple(_samples(Path(path), self.processor.sampling_rate) for path in paths)
        return (max(first.shape),) * len(paths)

    @property
    def sha256(self) -> str:
        """Hash of all that decides what is made of a file."""
        return hashlib.sha256(self.processor.to_json_string().encode()).hexdigest()

    def save_pretrained(self, folder: Path) -> None:
        """The processor's files."""
        self.processor.save_pretrained(folder)

    def _keep(self, path: str, arrays: Arrays) -> None:
        self._kept[path] = arrays
        self._bytes += _nbytes(arrays)
        while self._bytes > _MOST_BYTES:
            self._bytes -= _nbytes(self._kept.popitem(last=False)[1])

    def __getstate__(self) -> dict[str, Any]:
        return {"medium": self.medium, "processor": self.processor, "_kept": OrderedDict(), "_bytes": 0}


@dataclass(frozen=True)
class Files(Sequence[Arrays]):
    """The inputs of files, each read when it is asked for.

    Args:
        reader: makes them.
        paths: of the files.
        lengths: see FileReader.lengths.
    """

    reader: FileReader
    paths: tuple[str, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, reader: FileReader, paths: Sequence[str]) -> "Files":
        return cls(reader, tuple(paths), reader.lengths(paths))

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, row: int) -> Arrays: ...
    @overload
    def __getitem__(self, row: slice) -> "Files": ...
    def __getitem__(self, row: int | slice) -> "Arrays | Files":
        if isinstance(row, slice):
            return self.take(range(len(self))[row])
        return self.reader(self.paths[row])

    def take(self, rows: Sequence[int]) -> "Files":
        """Those of some rows, in that order."""
        return Files(self.reader, tuple(self.paths[row] for row in rows), tuple(self.lengths[row] for row in rows))


def longest_side(arrays: Mapping[str, NDArray[Any]]) -> int:
    """Of a row's inputs."""
    sides: list[int] = [side for values in arrays.values() for side in values.shape]
    return max(sides)


def open_reader(source: str | Path, medium: Medium, **options: Any) -> Any:
    """What makes a model's inputs of rows: a tokenizer, or a FileReader.

    Args:
        source: folder or Hub id of the model.
        medium: of the rows.
        options: of `from_pretrained`.
    """
    import transformers  # loads slowly, and processes that only read rows have no use for it

    with _quiet():
        found = getattr(transformers, medium.processor).from_pretrained(source, **options)
    return FileReader(medium, found) if medium.of_files else found


def check_medium(asked: Medium, own: Medium, whose: str) -> None:
    """Rows of one medium are not read by models of another.

    Args:
        asked: of the rows.
        own: of the model.
        whose: what the message calls the model.

    Raises:
        ModelError: they differ.
    """
    if asked != own:
        raise ModelError(
            f"{whose} reads {own.name} rows, expected a model of {asked.name} rows, which the task has. "
            f"Give a model for {asked.pipeline}, or rows of {own.name}."
        )


def check_file(path: Path, medium: Medium) -> str:
    """Hash of a file's content.

    Raises:
        DataError: the file is damaged, or holds nothing.
    """
    _CHECKS[medium.name](path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _image(processor: Any, path: Path) -> Mapping[str, Any]:
    """In grey where the processor normalises one channel, else in colours."""
    from PIL import ImageOps

    mode = "L" if len(getattr(processor, "image_mean", None) or ()) == 1 else "RGB"
    with _opened_image(path) as image:
        upright = ImageOps.exif_transpose(image).convert(mode)
    made: Mapping[str, Any] = processor(upright, return_tensors="np")
    return made


def _check_image(path: Path) -> None:
    with _opened_image(path) as image:
        image.verify()


def _sound(processor: Any, path: Path) -> Mapping[str, Any]:
    """One channel, the mean of all, in the processor's own sampling rate."""
    import soundfile
    from scipy.signal import resample_poly

    with _opened_sound(path):
        waves, rate = soundfile.read(path, dtype="float32", always_2d=True)
    up, down = _ratio(rate, processor.sampling_rate)
    wave = resample_poly(waves.mean(axis=1), up, down).astype(np.float32)  # (samples,)
    made: Mapping[str, Any] = processor(wave, sampling_rate=processor.sampling_rate, return_tensors="np")
    return made


def _check_sound(path: Path) -> None:
    import soundfile

    with _opened_sound(path):
        known = soundfile.info(path)
    if known.duration < _SHORTEST_SECONDS:
        raise DataError(
            f"{path} lasts {1000 * known.duration:.0f} ms, expected at least {1000 * _SHORTEST_SECONDS:.0f}. Remove it."
        )


def _samples(path: Path, rate: int) -> int:
    """Of a sound in another rate."""
    import soundfile

    known = soundfile.info(path)
    up, down = _ratio(known.samplerate, rate)
    return -(-int(known.frames) * up // down)


def _ratio(rate: int, wanted: int) -> tuple[int, int]:
    common = math.gcd(rate, wanted)
    return wanted // common, rate // common


@contextmanager
def _opened_sound(path: Path) -> Iterator[None]:
    from soundfile import SoundFileError

    if not path.is_file():
        raise DataError(f"There is no file {path}. Give the path of a sound.")
    try:
        yield
    except SoundFileError as error:
        raise DataError(
            f"{path} is no sound that libsndfile reads ({' '.join(str(error).split()).rstrip('.')}). Mend or remove it."
        ) from None


@contextmanager
def _opened_image(path: Path) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise DataError(f"There is no file {path}. Give the path of an image.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: what Pillow calls a broken PNG
        raise DataError(
            f"{path} is no image that Pillow reads ({' '.join(str(error).split())}). Mend or remove it."
        ) from None


def _nbytes(arrays: Arrays) -> int:
    return sum(values.nbytes for values in arrays.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remark that torchvision is missing: what stands in for it gives the same values."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


_READERS: Mapping[str, Callable[[Any, Path], Mapping[str, Any]]] = {IMAGE.name: _image, SOUND.name: _sound}
_CHECKS: Mapping[str, Callable[[Path], None]] = {IMAGE.name: _check_image, SOUND.name: _check_sound}
