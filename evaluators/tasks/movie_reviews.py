"""Movie reviews, positive or negative. Knows where the snippets come from; knows nothing of models.

10,605 snippets of Rotten Tomatoes reviews, each rated from -4 to 4 by 20 people: C. J. Hutto and E. Gilbert, "VADER: A
Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014; carried, under the MIT licence,
by the source distribution of vaderSentiment 2.5.
"""

import tempfile
from pathlib import Path

from evaluators.metrics.accuracy import Metric
from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Splits
from evaluators.tasks.download import Archive, extract, fetch
from evaluators.tasks.splits import DEFAULT_SIZES, SplitSizes, split
from spaces.medium import TEXT

ARCHIVE = Archive(
    registry="PyPI",
    package="vaderSentiment",
    version="2.5",
    filename="vaderSentiment-2.5.tar.gz",
    sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
)
WEAKEST_RATING = 0.5


class MovieReviews:
    """The sign of the mean rating as label; 10,072 snippets rated at least 0.5 from zero."""

    name = "movie-reviews"
    classes: tuple[str, ...] = ("negative", "positive")
    problem: Problem = CLASSIFICATION
    medium = TEXT
    pairs = False
    max_length = 128

    def __init__(self, sizes: SplitSizes = DEFAULT_SIZES, metric: str = "accuracy") -> None:
        self.metric = Metric.named(metric)
        self._sizes = sizes

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; downloaded on first use.

        Raises:
            DataError: the archive cannot be had, or the splits are too large.
        """
        texts, labels = read_snippets(_content(fetch(ARCHIVE)))
        return split(texts, labels, seed, self._sizes)


def read_snippets(content: str) -> tuple[list[str], list[int]]:
    """Texts, and 1 where the rating is positive, from lines `id TAB mean rating TAB text`; weak ratings left out."""
    lines = [line.split("\t", 2) for line in content.splitlines() if line]
    rated = [(text.strip(), float(rating)) for _, rating, text in lines if abs(float(rating)) >= WEAKEST_RATING]
    return [text for text, _ in rated], [int(rating > 0) for _, rating in rated]


def _content(archive: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        extract(archive, Path(folder))
        inner = Path(folder, archive.name.removesuffix(".tar.gz"), "additional_resources", "hutto_ICWSM_2014.tar.gz")
        extract(inner, Path(folder))
        return Path(folder, "hutto_ICWSM_2014", "movieReviewSnippets_GroundTruth.txt").read_text(encoding="utf-8")
