"""Messages as their readers see them, and near-duplicates among texts."""

import shutil

import numpy as np
import pytest

from evaluators.tasks.mail_spam import MailSpam, visible_text
from evaluators.tasks.near_duplicates import without_near_duplicates

MULTIPART = """From someone@example.org Thu Aug 22 12:36:23 2002
Subject: Win
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/{kind}; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

{body}
--b
Content-Type: text/plain
Content-Disposition: attachment

attached
--b--
"""


def message(body: str, kind: str = "plain") -> bytes:
    return MULTIPART.format(kind=kind, body=body).encode()


def test_headers_and_attachments_are_left_out() -> None:
    assert visible_text(message("Caf=C3=A9  at\nnoon=\n, friend")) == "Café at noon, friend"


def test_html_is_read_where_there_is_no_plain_text() -> None:
    html = "<style>b {}</style><p>Dear&nbsp;<b>you</b><!-- unseen --></p><script>x()</script><![if x]>&amp; me"
    assert visible_text(message(html, "html")) == "Dear you & me"


@pytest.mark.parametrize("charset", ["no-such-charset", "us-ascii", ""])
def test_a_false_character_set_costs_characters_at_most(charset: str) -> None:
    raw = f'Content-Type: text/plain; charset="{charset}"\n\nbuy '.encode() + b"now\xe9"
    assert visible_text(raw).startswith("buy now")


def test_a_message_without_text_says_nothing() -> None:
    assert visible_text(b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo=\n") == ""


def test_near_duplicates_go_but_for_the_first() -> None:
    words = [f"word{number}" for number in range(40)]
    other, short = " ".join(reversed(words)), "hello"
    texts = [" ".join(words), other, " ".join([*words, "Re:1837"]), short, short.upper(), " ".join(words[:10])]
    assert without_near_duplicates(texts) == [0, 1, 3, 5]


def test_resemblance_is_the_jaccard_index_of_runs_of_three_words() -> None:
    """a: 2 pads, so 6 runs; b shares the first 4 of its own 6: 4 / (6 + 6 - 4) = 0.5."""
    texts = ["a b c d e f", "a b c d x y"]
    assert without_near_duplicates(texts, most_alike=0.5) == [0, 1]
    assert without_near_duplicates(texts, most_alike=0.49) == [0]


def test_what_was_dropped_drops_nothing() -> None:
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(words[start : start + 40]) for start in (0, 10, 20)]  # each like the next, the ends unlike
    assert without_near_duplicates(texts, most_alike=0.5) == [0, 2]


@pytest.mark.data
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_mail_spam() -> None:
    splits = MailSpam().splits(0)
    texts = [text for rows in vars(splits).values() for text in rows.texts]
    labels = np.concatenate([rows.labels for rows in vars(splits).values()])
    assert 4000 < len(texts) == len(set(texts)) < 6046
    assert 0.2 < labels.mean() < 0.4
    assert np.median([len(text.split()) for text in texts]) > 100
    assert np.mean(["Received: from" in text for text in texts]) < 0.02  # those that are quoted
