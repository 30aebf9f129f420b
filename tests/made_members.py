"""Members with figures made up for tests of picking."""

from search.figures import AccuracyFigure, Estimate, LatencyFigure, MemberFigures, SizeFigure

FAIR_ACCURACY = 0.86


def accuracy(drop: float, half: float = 0.008) -> AccuracyFigure:
    """What a member scores whose drop is `drop`, with half-width `half` of the drop's interval."""
    value = FAIR_ACCURACY - drop
    return AccuracyFigure(value, (value - 0.017, value + 0.017), 1500, Estimate(drop, drop - half, drop + half))


def member(
    key: str,
    drop: float,
    ms: float,
    megabytes: float,
    *,
    search_drop: float | None = None,
    verified: bool = True,
    note: str | None = None,
) -> MemberFigures:
    """A member with `drop` on confirm (on search too unless said otherwise); unverified ones have no confirm figure."""
    scored = {"search": accuracy(drop if search_drop is None else search_drop)}
    return MemberFigures(
        key=key,
        kind="single",
        decoded={"layers": [None, {"heads": [0, 1], "ffn": [0]}]},
        verified=verified,
        accuracy={**scored, "confirm": accuracy(drop)} if verified else scored,
        latency=LatencyFigure(ms, ms * 0.9, ms * 1.5, 30, 3, {"fair": Estimate(4.5 / ms, 4.4 / ms, 4.6 / ms)}),
        size=SizeFigure(int(megabytes * 1e6), 711_000, {"fair": 90 / megabytes}),
        note=note,
    )
