"""What the quality of answers is called where people read of it. Knows names of metrics; knows no figures."""

from dataclasses import dataclass

from spaces.objectives import ACCURACY, AGREEMENT


@dataclass(frozen=True)
class Words:
    """How people are told of a metric.

    Args:
        metric: its name.
        lost: what a member has less of it than the original.
        best: whoever has most of it.
    """

    metric: str
    lost: str
    best: str


def said(metric: str) -> Words:
    """Of agreement, what is lost is disagreement, and nobody is called accurate: nobody knows who is right."""
    if metric == AGREEMENT:
        return Words(metric, "disagreement", "most faithful")
    return Words(metric, "drop", "most accurate" if metric == ACCURACY.name else f"best ({metric})")
