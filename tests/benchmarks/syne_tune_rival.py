"""syne-tune's multi-objective regularised evolution as a sampler. Knows syne-tune; evaluates nothing.

Its other multi-objective methods prune trials by epochs (MO-ASHA), need BoTorch (EHVI), or import a module that version
0.16.0 no longer has (surrogates). Installed on first use, beside the project's requirements and not among them.
"""

import random
import subprocess
import sys
from typing import Any

from evaluators.cache import cache_folder
from search.record import Record
from search.samplers.steered import on_grid
from spaces.design import Design
from spaces.knobs import Choice, FloatRange, IntRange, Knob
from spaces.objectives import Evaluation
from spaces.space import Space

REQUIREMENT = "syne-tune==0.16.0"
# As large as the other evolution's: the default, 100, would be random search for as many designs.
_POPULATION = 20
_DUPLICATES = 200


class Regularised:
    """Asks syne-tune, from the project's seeds; what is known already is told to it again and not evaluated."""

    def __init__(self, record: Record, space: Space, seeds: list[Design], seed: int) -> None:
        _ensure()
        from syne_tune.optimizer.schedulers.multiobjective.multi_objective_regularized_evolution import (
            MultiObjectiveRegularizedEvolution,
        )

        self._record = record
        self._space = space
        self._rng = random.Random(seed)
        self._waiting: dict[str, dict[str, Any]] = {}
        self._asked = 0
        self._searcher = MultiObjectiveRegularizedEvolution(
            {name: _domain(knob) for name, knob in space.knobs.items()},
            points_to_evaluate=[dict(design) for design in seeds],
            population_size=_POPULATION,
            random_seed=seed,
        )

    def ask(self) -> Design | None:
        for _ in range(_DUPLICATES):
            config = self._searcher.suggest()
            design = Design({name: on_grid(knob, config[name]) for name, knob in self._space.knobs.items()})
            key = self._space.decode(design).key
            if key not in self._waiting and not self._record.knows(key):
                self._waiting[key] = dict(design)
                return design
        return self._space.sample(self._rng)

    def tell(self, evaluation: Evaluation) -> None:
        trial = self._record.trial(self._record.ended[-1])
        costs = [objective.cost(trial.values[objective.name]) for objective in self._record.objectives]
        self._searcher.on_trial_complete(self._asked, self._waiting.get(evaluation.key, dict(trial.knobs or {})), costs)
        self._asked += 1


def _domain(knob: Knob) -> Any:
    from syne_tune.config_space import choice, randint, uniform

    if isinstance(knob, Choice):
        return choice(list(knob.values))
    if isinstance(knob, IntRange):
        return randint(knob.low, knob.high)
    assert isinstance(knob, FloatRange)
    return uniform(knob.low, knob.high)


def _ensure() -> None:
    """syne-tune can be imported; of what it declares its evolution needs only what the project has."""
    folder = cache_folder() / "peers" / "syne-tune"
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), REQUIREMENT]
        subprocess.run(command, check=True)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
