"""Latency by length of the input, as rows of text. Knows figures and picks; measures nothing."""

from collections.abc import Mapping

from search.figures import BandFigure, Estimate, LatencyFigure
from search.front_file import FrontFile
from search.tables import short

# Whose latency over a model's own stands beside it.
_OVER = ("fair", "one_liner")


def length_table(front: FrontFile) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header with the bands of length and how many timed calls each has; a row per picked model, then per baseline.

    No row where nothing was measured by length; no figures for what was measured on inputs of other lengths.
    """
    names: dict[str, list[str]] = {}
    for pick in front.picks:
        names.setdefault(pick.key or "", []).append(pick.name)
    members = {member.key: member for member in front.members}
    shown = [(key, ", ".join(picks), members[key].latency) for key, picks in names.items() if key in members]
    shown += [(name, "", baseline.latency) for name, baseline in front.baselines.items()]
    common = next((bands for *_, latency in reversed(shown) if (bands := _bands(latency))), {})
    header = ("key", "picked as", *(_title(band) for band in common.values()))
    if not common:
        return header, []
    rows = [
        (short(key), picks, *(_cell(bands.get(tokens)) for tokens in common))
        for key, picks, latency in shown
        if (bands := _bands(latency))
    ]
    return header, rows


def _bands(latency: LatencyFigure | None) -> dict[tuple[int, int], BandFigure]:
    return {} if latency is None else {band.tokens: band for band in latency.bands}


def _title(band: BandFigure) -> str:
    first, last = band.tokens
    return f"{first} tokens ({band.n})" if first == last else f"{first}-{last} tokens ({band.n})"


def _cell(band: BandFigure | None) -> str:
    """`0.91 (4.31x, 1.62x)`: ms, and how many times as fast as the baselines."""
    if band is None:
        return "-"
    return f"{band.mean_ms:.2f} ({', '.join(_times(band.speedup, name) for name in _OVER)})"


def _times(speedup: Mapping[str, Estimate], name: str) -> str:
    return f"{speedup[name].value:.2f}x" if name in speedup else "-"
