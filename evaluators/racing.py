"""When an evaluation may end early. Knows divergences row by row; knows no model.

Rows are in random order, so those looked at so far are a sample of all: once the lower end of the mean's confidence
interval is above what has to be beaten, the rest would hardly change it.
"""

import math

import numpy as np
from numpy.typing import NDArray

# Of all rows those looked at first, and the least number that says anything; then twice as many each time.
_FIRST_SHARE, _FEWEST = 1 / 16, 32
# Standard errors: tests/benchmarks/racing.py says how often it stops a design that belongs on the front.
SURE = 2.5


def ends(rows: int, batch_size: int) -> list[int]:
    """Where ever more rows end, the last at all of them, the others at whole batches: answers may depend on these."""
    found, end = [], max(_FEWEST, round(_FIRST_SHARE * rows))
    while 2 * end <= rows:
        found.append(-(-end // batch_size) * batch_size)
        end *= 2
    return sorted({*(each for each in found if each < rows), rows})


def least_mean(values: NDArray[np.float64], rows: int, sure: float = SURE) -> float:
    """What the mean over all `rows` is at least, from the first of their values, (n,); -inf while n is below two."""
    n = len(values)
    if n < 2:
        return -math.inf
    error = float(values.std(ddof=1)) * math.sqrt((1 - n / rows) / n)  # of a sample without replacement
    return float(values.mean()) - sure * error
