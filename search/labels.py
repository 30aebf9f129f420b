"""Where the names of points go, so that they can be read. Knows boxes; knows nothing of figures or drawing."""

from collections.abc import Sequence
from typing import NamedTuple

# Offsets of a label's near edge from its point, in units of its height: near places first, right before left.
_PLACES = tuple((side, rise) for rise in (0.9, -0.9, 1.9, -1.9, 2.9, -2.9, 3.9, -3.9) for side in (0.7, -0.7))


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, x: float, y: float, side: float) -> "Box":
        """A square with its middle at (x, y)."""
        return cls(x - side / 2, y - side / 2, x + side / 2, y + side / 2)

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)


def place(
    points: Sequence[tuple[float, float]], widths: Sequence[float], height: float, taken: Sequence[Box], frame: Box
) -> list[Box]:
    """One box per label, one after another where it covers least of what is there.

    Args:
        points: (x, y) that the labels belong to.
        widths: of the labels, in the points' unit.
        height: of every label.
        taken: boxes that are better not covered, such as the points' marks.
        frame: boxes should lie inside.
    """
    placed: list[Box] = []
    for (x, y), width in zip(points, widths, strict=True):
        boxes = [_beside(x, y, width, height, side, rise) for side, rise in _PLACES]
        costs = [
            10 * (box.area - box.overlap(frame))
            + sum(box.overlap(other) for other in taken)
            + 5 * sum(box.overlap(other) for other in placed)
            + 0.05 * rank * box.area
            for rank, box in enumerate(boxes)
        ]
        placed.append(boxes[costs.index(min(costs))])
    return placed


def _beside(x: float, y: float, width: float, height: float, side: float, rise: float) -> Box:
    left = x + side * height if side > 0 else x + side * height - width
    middle = y + rise * height
    return Box(left, middle - height / 2, left + width, middle + height / 2)
