"""A folder of files as a task: a folder in it for each class, or none. Knows files and names; knows no models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.media import check_file
from evaluators.metrics.accuracy import Metric
from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Splits
from evaluators.tasks.columns import LabelledTexts, labelled_texts
from evaluators.tasks.splits import DEFAULT_SIZES, SplitSizes, split
from spaces.errors import DataError
from spaces.medium import MEDIA, Medium, medium_of_file
from spaces.objectives import AGREEMENT

# Folders of these names, with the classes' folders in them, part the rows; all but test are shared out anew.
_TEST = "test"
_PARTS = ("train", "training", "val", "valid", "validation", "dev", _TEST)
_CURE = "Write FOLDER/CLASS/FILE, or FOLDER/train/CLASS/FILE and FOLDER/test/CLASS/FILE."


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Args:
        paths: in order, those in hidden folders and hidden ones left out.
        medium: of all of them.
        contents: hash of each.
    """

    paths: tuple[Path, ...]
    medium: Medium
    contents: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> "Listing":
        """List and check every file.

        Raises:
            DataError: no such folder, nothing in it, files of several media or of none, or a damaged one.
        """
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}. Give the path of a folder of files.")
        paths = tuple(path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder))
        if not paths:
            raise DataError(f"{folder} holds no files. {_CURE}")
        medium = _medium(paths[0])
        other = next((path for path in paths if _medium(path) != medium), None)
        if other is not None:
            raise DataError(
                f"{folder} holds files of several kinds: {paths[0]} is of {medium.name}, {other} of "
                f"{_medium(other).name}. Keep those of one kind."
            )
        return cls(paths, medium, tuple(check_file(path, medium) for path in paths))

    @property
    def texts(self) -> tuple[str, ...]:
        """The paths as rows have them, which processes elsewhere can open too."""
        return tuple(str(path.absolute()) for path in self.paths)


class FolderTask:
    """Files by class, `FOLDER/CLASS/*`; or by part and class, `FOLDER/train/CLASS/*` and `FOLDER/test/CLASS/*`, where
    the files under `test` are the test split. Files of equal content are one row."""

    problem: Problem = CLASSIFICATION
    pairs = False
    max_length = 0  # files are read whole

    def __init__(
        self, path: str | Path, classes: Sequence[str], metric: Metric, sizes: SplitSizes = DEFAULT_SIZES
    ) -> None:
        """List and check all files.

        Args:
            path: the folder.
            classes: what a model calls its classes; folders that are called so are numbered as there.
            metric: of the answers.
            sizes: of the splits.

        Raises:
            DataError: files that cannot be used, classes with hardly any, or some that the model does not know.
        """
        folder, self.metric, self._sizes = Path(path), metric, sizes
        self._listing = Listing.of(folder)
        places = [place(file, folder) for file in self._listing.paths]
        self._test = tuple(row for row, (part, _) in enumerate(places) if part == _TEST)
        texts, labels = self._listing.texts, [label for _, label in places]
        self._rows = _numbered_as(classes, labelled_texts(texts, labels, str(path)), str(path))
        self.name = folder.resolve().name
        self.medium = self._listing.medium
        self.classes = self._rows.classes

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed.

        Raises:
            DataError: too few distinct rows, or splits too large.
        """
        rows, known = self._rows, self._listing.contents
        return split(rows.texts, rows.labels, seed, self._sizes, contents=known, test=self._test)


class UnlabeledFolder:
    """The files of a flat folder, and the classes of the model that answers them."""

    problem: Problem = CLASSIFICATION
    metric = Metric(AGREEMENT)
    pairs = False
    max_length = 0

    def __init__(self, path: str | Path, classes: Sequence[str], sizes: SplitSizes = DEFAULT_SIZES) -> None:
        """List and check all files.

        Raises:
            DataError: files that cannot be used.
        """
        self._listing, self._sizes = Listing.of(Path(path)), sizes
        self.name = Path(path).resolve().name
        self.medium = self._listing.medium
        self.classes = tuple(classes)

    def splits(self, seed: int) -> Splits:
        """De-duplicated, disjoint; the same for the same seed.

        Raises:
            DataError: too few distinct rows, or splits too large.
        """
        return split(self._listing.texts, (), seed, self._sizes, contents=self._listing.contents)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _medium(path: Path) -> Medium:
    found = medium_of_file(path)
    if found is None:
        known = ", ".join(suffix for medium in MEDIA.values() for suffix in medium.suffixes)
        raise DataError(f"{path} ends in {path.suffix!r}; known are {known}. Convert it, or move it elsewhere.")
    return found


def place(file: Path, folder: Path) -> tuple[str, str]:
    """Part, if any, and class of a file."""
    parts = file.relative_to(folder).parts[:-1]
    if len(parts) == 1:
        return "", parts[0]
    if len(parts) != 2 or parts[0] not in _PARTS:
        raise DataError(f"{file} is not in the folder of a class. {_CURE}")
    return parts[0], parts[1]


def _numbered_as(classes: Sequence[str], found: LabelledTexts, source: str) -> LabelledTexts:
    """With the model's classes in its order; as found where a head for other classes has to be made anyway."""
    numbers = {name.casefold(): index for index, name in enumerate(classes)}
    strange = [name for name in found.classes if name.casefold() not in numbers]
    if len(strange) == len(found.classes) and len(strange) != len(classes):
        return found
    if strange:
        raise DataError(
            f"{source} has the class {strange[0]!r}, the model answers {', '.join(classes)}. Name the folders as the "
            "model names its classes, or give a checkpoint without a head for others, to be fine-tuned."
        )
    new = [numbers[name.casefold()] for name in found.classes]
    return replace(found, labels=tuple(new[int(str(label))] for label in found.labels), classes=tuple(classes))
