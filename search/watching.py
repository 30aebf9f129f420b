"""How far another process's search has come, from the files it leaves. Knows trials.csv; starts and loads nothing."""

from pathlib import Path

from search.board import TREND, Board
from search.config import TRIALS
from search.growth import grown
from search.recipes import is_recipe
from search.so_far import read_config
from search.trials import read_trials, statistics


def board(folder: Path) -> Board:
    """Of the run in `folder`; what stands in trials.csv is a few seconds old.

    Raises:
        RunError: the folder is not a run.
    """
    config, trials = read_config(folder), read_trials(folder / "trials.csv")
    found, growth = statistics(trials), grown(trials)
    states, rate = found.states, found.per_second
    done = sum(count for state, count in states.items() if state != "running")
    total = config.search.trials or (None if is_recipe(config) else TRIALS)
    return Board(
        done=done,
        total=total,
        failed=states.get("failed", 0),
        stopped=states.get("stopped", 0),
        rate=rate,
        seconds=found.seconds,
        eta_seconds=None if total is None or not rate else max(total - done, 0) / rate,
        workers=found.workers,
        busy=found.busy,
        front=growth.front(),
        trend=[volume for _, volume in growth.curve(TREND)],
    )
