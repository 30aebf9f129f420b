"""Knobs as Optuna's distributions, and designs that Optuna did not think of as its trials. Knows nothing of records."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.trial import FrozenTrial, TrialState

from spaces.design import Design
from spaces.knobs import Choice, FloatRange, IntRange, Knob, Scalar


def distribution(knob: Knob) -> BaseDistribution:
    """What Optuna calls a knob.

    Raises:
        TypeError: a kind of knob that Optuna has no distribution for.
    """
    if isinstance(knob, Choice):
        return CategoricalDistribution(knob.values)
    if isinstance(knob, IntRange):
        return IntDistribution(knob.low, knob.high)
    if isinstance(knob, FloatRange):
        return FloatDistribution(knob.low, knob.high, step=knob.step)
    raise TypeError(f"{knob} is a {type(knob).__name__}; Optuna knows Choice, IntRange and FloatRange.")


def on_grid(knob: Knob, value: Scalar) -> Scalar:
    """A value as the knob writes it: without Optuna's rounding errors, so that equal designs are equal."""
    return knob.nearest(float(value)) if isinstance(knob, FloatRange) else value


class Steered(BaseSampler):
    """A sampler that proposes one given design while steered towards it, and otherwise what `inner` proposes.

    `Study.enqueue_trial` would do the same without telling `inner`; a genetic algorithm then never sees the trial,
    because it belongs to no generation.
    """

    def __init__(self, inner: BaseSampler, distributions: Mapping[str, BaseDistribution]) -> None:
        self._inner = inner
        self._distributions = dict(distributions)
        self._goal: Design | None = None

    @contextmanager
    def towards(self, design: Design) -> Iterator[None]:
        """The trial that is asked inside is `design`."""
        self._goal = design
        try:
            yield
        finally:
            self._goal = None

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._goal is not None:
            return self._distributions
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._goal is None:
            return self._inner.sample_relative(study, trial, search_space)
        if isinstance(self._inner, BaseGASampler):
            self._inner.get_trial_generation(study, trial)
        return dict(self._goal)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)
