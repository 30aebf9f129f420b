"""One file per compression family: an Axis (its knobs) and a config (what an evaluator applies)."""
