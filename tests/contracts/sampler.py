"""What every sampler keeps to."""

from pathlib import Path

import pytest

from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.loop import Meter, run
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.base import Sampler
from spaces.objectives import KL, LATENCY, SIZE, Bound
from spaces.space import Space

LIMITS = (Bound("latency", 8.0, "8ms"), Bound("accuracy_drop", 0.08, "8pt"))
TRIALS = 24


class SamplerContract:
    """Subclass it with `make_sampler`."""

    def make_sampler(self, record: Record, space: Space, seed: int) -> Sampler:
        raise NotImplementedError

    @pytest.fixture
    def space(self) -> Space:
        return synthetic_space(4, step=0.1)

    def search(self, folder: Path, space: Space, seed: int = 0, trials: int = TRIALS) -> Record:
        """A search with one worker; goes on if there is a record."""
        record = (
            Record.open(folder)
            if Record.exists(folder)
            else Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=LIMITS)
        )
        sampler = self.make_sampler(record, space, seed)
        run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(trials))
        return record

    def test_designs_are_of_the_space_and_no_member_comes_twice(self, tmp_path: Path, space: Space) -> None:
        trials = self.search(tmp_path, space).trials()
        assert len(trials) == TRIALS
        assert len({trial.key for trial in trials}) == TRIALS
        assert {trial.state for trial in trials} == {"complete"}
        for trial in trials:
            assert space.member(trial.decoded, trial.weights).key == trial.key

    def test_same_seed_same_sequence(self, tmp_path: Path, space: Space) -> None:
        keys = [[trial.key for trial in self.search(tmp_path / name, space).trials()] for name in ("a", "b")]
        assert keys[0] == keys[1]

    def test_another_seed_gives_another_sequence(self, tmp_path: Path, space: Space) -> None:
        first = [trial.key for trial in self.search(tmp_path / "a", space, seed=0).trials()]
        assert first != [trial.key for trial in self.search(tmp_path / "b", space, seed=1).trials()]

    def test_a_resumed_search_repeats_nothing(self, tmp_path: Path, space: Space) -> None:
        before = self.search(tmp_path, space, trials=10).trials()
        after = self.search(tmp_path, space, trials=TRIALS).trials()
        assert after[:10] == before
        assert len({trial.key for trial in after}) == TRIALS

    def test_a_used_up_space_ends_the_search(self, tmp_path: Path) -> None:
        tiny = synthetic_space(3, step=1.0)
        assert len(self.search(tmp_path, tiny, trials=100).trials()) == 8
