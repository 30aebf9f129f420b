"""What every evaluator keeps to."""

import pickle

import pytest

from evaluators.base import Evaluator, Score
from spaces.objectives import Complete
from spaces.space import Space


class EvaluatorContract:
    """Subclass it with a fixture `evaluator`, and one `space` of members that the evaluator can score."""

    @pytest.fixture
    def evaluator(self) -> Evaluator:
        raise NotImplementedError

    @pytest.fixture
    def space(self) -> Space:
        raise NotImplementedError

    def test_the_identity_is_complete_and_answers_to_its_key(self, evaluator: Evaluator, space: Space) -> None:
        job = Score(space.decode(space.identity()))
        evaluation = evaluator.evaluate(job)
        assert evaluation.key == job.key
        assert isinstance(evaluation.outcome, Complete)
        assert len(evaluation.outcome.values) >= 2

    def test_it_can_be_used_again(self, evaluator: Evaluator, space: Space) -> None:
        identity, smallest = (Score(space.decode(design)) for design in space.extremes().values())
        before = evaluator.evaluate(identity).outcome
        evaluator.evaluate(smallest)
        assert evaluator.evaluate(identity).outcome == before

    def test_members_of_different_designs_score_differently(self, evaluator: Evaluator, space: Space) -> None:
        identity, smallest = (Score(space.decode(design)) for design in space.extremes().values())
        assert evaluator.evaluate(identity).outcome != evaluator.evaluate(smallest).outcome

    def test_evaluations_and_jobs_pickle(self, evaluator: Evaluator, space: Space) -> None:
        job = Score(space.decode(space.identity()))
        assert pickle.loads(pickle.dumps(job)) == job
        evaluation = evaluator.evaluate(job)
        assert pickle.loads(pickle.dumps(evaluation)) == evaluation
