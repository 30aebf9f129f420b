"""Pure values: designs, knobs, axes, limits, evaluations. Standard library only."""
