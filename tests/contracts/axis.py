"""What every axis of a space keeps to."""

import pickle
import random

import pytest

from spaces.space import Axis


class AxisContract:
    """Subclass it with a fixture `axis`."""

    @pytest.fixture
    def axis(self) -> Axis:
        raise NotImplementedError

    def test_every_knob_contains_what_it_draws(self, axis: Axis) -> None:
        rng = random.Random(0)
        assert all(knob.contains(knob.sample(rng)) for knob in axis.knobs.values() for _ in range(50))

    def test_named_designs_lie_in_the_ranges(self, axis: Axis) -> None:
        for knobs in (axis.neutral(), *axis.ladder(), *axis.extremes().values()):
            assert all(axis.knobs[name].contains(value) for name, value in knobs.items())
        assert axis.neutral().keys() == axis.knobs.keys()
        assert axis.extremes().keys() == {"whole", "smallest"}
        assert axis.ladder()

    def test_the_decoded_form_comes_back(self, axis: Axis) -> None:
        rng = random.Random(1)
        for _ in range(20):
            config = axis.decode({name: knob.sample(rng) for name, knob in axis.knobs.items()})
            assert isinstance(config, axis.config)
            assert axis.config.from_decoded(config.to_decoded()) == config
            assert pickle.loads(pickle.dumps(config)) == config
            assert hash(config) == hash(pickle.loads(pickle.dumps(config)))

    def test_decoding_depends_on_nothing_but_the_knobs(self, axis: Axis) -> None:
        again = pickle.loads(pickle.dumps(axis))
        for knobs in axis.ladder():
            assert again.decode({**axis.neutral(), **knobs}) == axis.decode({**axis.neutral(), **knobs})
