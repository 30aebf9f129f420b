"""What the outputs of a model mean: one file per kind of problem."""
