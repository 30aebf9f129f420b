"""A file of texts without labels as a task: a model's answers stand for these. Knows files; knows no models."""

from collections.abc import Sequence
from pathlib import Path

from evaluators.metrics.accuracy import Metric
from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Splits
from evaluators.tasks.files import unlabeled_texts
from evaluators.tasks.splits import DEFAULT_SIZES, SplitSizes, split
from spaces.medium import TEXT
from spaces.objectives import AGREEMENT


class UnlabeledTask:
    """The texts of a file, and the classes of the model that answers them; other columns are not read."""

    problem: Problem = CLASSIFICATION
    medium = TEXT
    metric = Metric(AGREEMENT)
    pairs = False
    max_length = 128

    def __init__(
        self, path: str | Path, classes: Sequence[str], column: str = "text", sizes: SplitSizes = DEFAULT_SIZES
    ) -> None:
        """Read and check the whole file.

        Raises:
            DataError: no such file, an unknown or damaged format, a missing column, or no text.
        """
        self._texts = unlabeled_texts(Path(path), column)
        self._sizes = sizes
        self.name = Path(path).stem
        self.classes = tuple(classes)

    def splits(self, seed: int) -> Splits:
        """De-duplicated, disjoint; the same for the same seed.

        Raises:
            DataError: too few distinct rows, or splits too large.
        """
        return split(self._texts, (), seed, self._sizes)
