"""The published FastFormers ladder: its steps (steps.py), their models (models.py) and their measuring (race.py)."""
