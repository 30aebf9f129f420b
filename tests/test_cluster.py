"""Nodes come and go: workers follow them, and no job is lost. Several raylets on this machine stand for nodes."""

import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest

from evaluators.base import Score
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.runners.base import Runner
from spaces.objectives import Complete

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SPACE = synthetic_space()
RNG = random.Random(0)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head with one core."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@contextmanager
def workers(seconds: float) -> Iterator[Runner]:
    """As many as the cluster has room for; a job takes so many seconds."""
    from search.runners.ray_pool import RayRunner

    with closing(RayRunner(partial(SyntheticEvaluator, seconds=seconds), workers=None)) as runner:
        yield runner


def job() -> Score:
    return Score(SPACE.decode(SPACE.sample(RNG)))


def work(runner: Runner, until_slots: int, seconds: float = 60.0) -> None:
    """Evaluate designs until the runner has so many slots; every one must come back complete."""
    end, running = time.monotonic() + seconds, 0
    while runner.slots != until_slots or running:
        while runner.slots != until_slots and running < runner.slots:
            runner.submit(job())
            running += 1
        evaluation = runner.next_done()
        assert evaluation is not None
        assert isinstance(evaluation.outcome, Complete), evaluation.outcome
        running -= 1
        assert time.monotonic() < end, f"{runner.slots} slots after {seconds:g} s, expected {until_slots}"


def test_workers_come_with_nodes_and_go_with_them(cluster: Any) -> None:
    with workers(seconds=0.5) as runner:
        assert runner.slots == 1
        node = cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
        work(runner, until_slots=3)
        cluster.remove_node(node)
        work(runner, until_slots=1)


def test_jobs_of_a_node_that_is_killed_are_done_elsewhere(cluster: Any) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    with workers(seconds=10) as runner:
        assert runner.slots == 2
        runner.submit(job())
        runner.submit(job())
        time.sleep(1)
        cluster.remove_node(node, allow_graceful=False)
        ended = [runner.next_done(), runner.next_done()]
    assert all(evaluation is not None and isinstance(evaluation.outcome, Complete) for evaluation in ended)
    assert sorted(evaluation.attempts for evaluation in ended if evaluation is not None) == [1, 2]
