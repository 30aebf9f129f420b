"""A front as rows: order, shares, units and the three ways to write them."""

import csv
import io
import json
from dataclasses import replace

import pytest

from search.by_length import length_table
from search.figures import BandFigure, Estimate, MemberFigures, Pick
from search.front_file import FrontFile
from search.tables import Parts, Row, baseline_table, front_table, header, interval, summary, to_json
from search.tables import csv as to_csv
from tests.example_run import decoded
from tests.made_members import member as made


def member(key: str, drop: float, ms: float, megabytes: float, *, verified: bool = True) -> MemberFigures:
    return replace(made(key, drop, ms, megabytes, verified=verified), decoded=decoded())


@pytest.fixture
def front() -> FrontFile:
    """Three verified members out of order and an unverified one; the original has 72 heads and 9,216 neurons."""
    fast = replace(member("b" * 16, 0.01, 1.0, 8), decoded=decoded(heads=0.5, ffn=0.25, bits=8, embeddings=4))
    return FrontFile(
        run="example",
        seed=0,
        baselines={"fair": member("c" * 16, 0.0, 4.5, 90)},
        members=(
            member("a" * 16, 0.0, 3.0, 20),
            fast,
            member("d" * 16, 0.03, 0.5, 30, verified=False),
            member("e" * 16, 0.02, 2.0, 9),
        ),
        picks=(Pick("limits", "b" * 16, True, "fast"), Pick("knee", "b" * 16, False, "bent")),
    )


def test_verified_members_come_fastest_first(front: FrontFile) -> None:
    assert [row.key[0] for row in front_table(front)] == ["b", "e", "a"]


def test_unverified_members_come_last_and_only_if_asked_for(front: FrontFile) -> None:
    assert [row.key[0] for row in front_table(front, unverified=True)] == ["b", "e", "a", "d"]


def test_a_front_without_verified_members_shows_what_search_knows(front: FrontFile) -> None:
    (row,) = front_table(replace(front, members=front.members[2:3]))
    assert (row.verified, row.split) == (False, "search")
    assert "(search)" in cell(row, "accuracy [95 %]")


def test_figures_and_shares_of_a_row(front: FrontFile) -> None:
    row = front_table(front)[0]
    assert row.picks == ("limits", "knee")
    assert (row.layers, row.heads, row.neurons, row.bits) == (6, 0.5, 0.25, "8, emb 4")
    assert row.drop == Estimate(0.01, pytest.approx(0.002), pytest.approx(0.018))  # type: ignore[arg-type]


def test_cells_are_in_points_milliseconds_and_megabytes(front: FrontFile) -> None:
    row = front_table(front)[0]
    assert cell(row, "key") == "bbbbbbbb"
    assert cell(row, "drop, points [95 %]") == "1.00 [0.20, 1.80]"
    assert cell(row, "ms (p95)") == "1.00 (1.50)"
    assert cell(row, "vs fair") == "4.50x"
    assert cell(row, "vs one_liner") == "-"
    assert cell(row, "MB (x smaller)") == "8.0 (11.2x)"
    assert cell(row, "heads") == "50 %"


def test_a_row_without_any_figure_has_a_cell_for_every_column(front: FrontFile) -> None:
    bare = replace(front.members[0], decoded=None, accuracy={}, latency=None, size=None, verified=False)
    (row,) = front_table(replace(front, members=(bare,), baselines={}))
    assert len(row.cells()) == len(header(FrontFile("run", 0)))
    assert (
        cell(row, "accuracy [95 %]") == cell(row, "ms (p95)") == cell(row, "MB (x smaller)") == cell(row, "bits") == "-"
    )


def test_baselines_go_by_their_names(front: FrontFile) -> None:
    (row,) = baseline_table(front)
    assert (cell(row, "key"), row.heads, row.neurons) == ("fair", 1.0, 1.0)


@pytest.mark.parametrize(
    ("bits", "embeddings", "text"),
    [
        ((8,), 8, "8"),
        ((8,), 4, "8, emb 4"),
        ((8, 4), 4, "8/4 mixed, emb 4"),
        ((8, 4), None, "8/4 mixed"),
        ((), 8, "emb 8"),
    ],
)
def test_bits_in_words(bits: tuple[int, ...], embeddings: int | None, text: str) -> None:
    assert Parts(6, None, None, bits, embeddings).bits_text == text


def test_summary_of_a_design() -> None:
    design = decoded(heads=0.5, ffn=0.25, layers=3, bits=8, embeddings=4)
    assert summary(design, decoded()) == "3 layers, 25 % heads, 12 % neurons, int8, emb int4"
    assert summary(design) == "3 layers, 18 heads, 1152 neurons, int8, emb int4"
    assert summary(decoded(layers=1)) == "1 layer, 12 heads, 1536 neurons, fp32"
    assert summary(None) == "not a design of this space"
    design["embeddings"]["exact_rows"] = 10631
    assert summary(design) == "3 layers, 18 heads, 1152 neurons, int8, emb int4, 10,631 words exact"
    design["embeddings"]["exact_rows"] = None
    kinds = ("hard@16", "soft", "hard@16")
    design["layers"] = [{**layer, "attention": kind} for layer, kind in zip(design["layers"], kinds, strict=False)]
    assert "int4, hard@16 in 2 layers" in summary(design)


def test_a_block_that_is_gone_has_no_width() -> None:
    design = decoded(bits=8, embeddings=8)
    design["layers"][0] = {**design["layers"][0], "heads": [], "bits": {"attention": None, "ffn": 8}}
    parts = Parts.of(design)
    assert parts is not None
    assert parts.bits == (8,)


def test_an_estimate_without_an_interval_is_a_bare_value() -> None:
    assert interval(Estimate(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    assert interval(Estimate(0.5, 0.5, 0.5), 100, 1) == "50.0"


def test_csv_holds_whole_keys_and_unrounded_figures(front: FrontFile) -> None:
    first, *_ = csv.DictReader(io.StringIO(to_csv(front_table(front))))
    assert first["key"] == "b" * 16
    assert float(first["accuracy"]) == pytest.approx(0.85)
    assert float(first["drop_high"]) == pytest.approx(0.018)
    assert float(first["speedup_fair"]) == 4.5
    assert first["speedup_pipeline"] == ""
    assert first["picks"] == "limits knee"


def test_json_holds_the_rows(front: FrontFile) -> None:
    rows = json.loads(json.dumps(to_json(front_table(front))))
    assert rows[0]["drop"]["high"] == pytest.approx(0.018)
    assert rows[0]["bytes"] == 8_000_000


def banded(made: MemberFigures, *tokens: tuple[int, int]) -> MemberFigures:
    """The same, timed on inputs of these lengths."""
    assert made.latency is not None
    over = {name: Estimate(times, times, times) for name, times in (("fair", 3.0), ("one_liner", 1.5))}
    bands = tuple(BandFigure(ends, 10 + place, 0.5 + place, over) for place, ends in enumerate(tokens))
    return replace(made, latency=replace(made.latency, bands=bands))


def test_latency_by_length_of_picks_and_baselines(front: FrontFile) -> None:
    bands = (3, 14), (15, 15)
    members = tuple(banded(each, *bands) for each in front.members)
    fair = replace(banded(front.baselines["fair"], *bands), key="fair")
    header, rows = length_table(replace(front, members=members, baselines={"fair": fair}))
    assert header == ("key", "picked as", "3-14 tokens (10)", "15 tokens (11)")
    assert rows == [
        ("bbbbbbbb", "limits, knee", "0.50 (3.00x, 1.50x)", "1.50 (3.00x, 1.50x)"),
        ("fair", "", "0.50 (3.00x, 1.50x)", "1.50 (3.00x, 1.50x)"),
    ]


def test_what_was_timed_on_other_lengths_or_before_there_were_bands_has_no_figures_by_length(front: FrontFile) -> None:
    assert length_table(front)[1] == []
    other = tuple(banded(each, (1, 14), (15, 15)) for each in front.members)
    fair = banded(front.baselines["fair"], (3, 14), (15, 15))
    header, (pick, baseline) = length_table(replace(front, members=other, baselines={"fair": fair}))
    assert (len(header), pick[2:]) == (4, ("-", "1.50 (3.00x, 1.50x)"))
    assert "-" not in baseline[2:]
    header, rows = length_table(replace(front, baselines={"fair": fair}))
    assert [row[0] for row in rows] == ["fair"]


def cell(row: Row, column: str) -> str:
    return row.cells()[header(FrontFile("run", 0)).index(column)]
