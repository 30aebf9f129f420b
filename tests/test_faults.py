"""Workers, a node and the driver are killed during one search: nothing is lost, nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.front import front
from search.loop import Meter, run
from search.record import Record
from search.samplers.auto import AutoSampler
from search.trials import read_trials
from spaces.objectives import KL, LATENCY, SIZE

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timing]
ROOT = Path(__file__).parents[1]
SPACE, TRIALS = synthetic_space(), 200
DRIVER = """
import sys
from pathlib import Path
from tests.test_faults import searched
searched(Path(sys.argv[1]), sys.argv[2])
"""


def searched(folder: Path, address: str) -> None:
    """Search in `folder` on a cluster, or go on there."""
    from search.runners.ray_pool import RayRunner

    objectives = (KL, LATENCY, SIZE)
    record = Record.open(folder) if Record.exists(folder) else Record.create(folder, objectives=objectives, bounds=())
    sampler = AutoSampler(record, SPACE, seeds=SPACE.seeds(), seed=0, trials=TRIALS)
    make = partial(SyntheticEvaluator, seconds=0.25)
    with closing(RayRunner(make, workers=None, address=address)) as runner:
        run(SPACE, sampler, runner, record, rows=None, meter=Meter(TRIALS))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes with two each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    yield cluster
    cluster.shutdown()


def test_killed_workers_a_killed_node_and_a_killed_driver_lose_nothing(cluster: Any, tmp_path: Path) -> None:
    driver = start(tmp_path, cluster.address)
    for done in (10, 30, 50):
        wait_for(tmp_path, done)
        worker = next(each for node in cluster.worker_nodes for each in workers(node))
        worker.kill()
    wait_for(tmp_path, 80)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    wait_for(tmp_path, 120)
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=30)
    left = Record.open(tmp_path)
    assert left.counts()["running"] > 0
    assert start(tmp_path, cluster.address).wait(timeout=300) == 0

    record = Record.open(tmp_path)
    trials = record.trials()
    assert record.counts() == {**record.counts(), "complete": TRIALS, "stopped": 0, "failed": 0, "running": 0}
    assert len({trial.key for trial in trials}) == len(trials) == TRIALS
    assert {trial.key for trial in left.trials()} <= {trial.key for trial in trials}
    assert sum(trial.attempts > 1 for trial in trials) >= 4
    assert len({trial.node for trial in trials}) == 2
    told = {trial.key: tuple(trial.values.values()) for trial in trials}
    written = {trial.key: tuple(trial.objectives.values()) for trial in read_trials(tmp_path / "trials.csv")}
    assert set(front(list(told), costs=told.__getitem__)) == set(undominated(written))


def start(folder: Path, address: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(folder), address], cwd=ROOT, env=environment)


def wait_for(folder: Path, done: int, seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not Record.exists(folder) or Record.open(folder).counts()["complete"] < done:
        assert time.monotonic() < until, f"not {done} trials after {seconds:g} s"
        time.sleep(0.2)


def workers(node: Any) -> list[psutil.Process]:
    """The processes at work on a node of this cluster; others on this machine are somebody else's."""
    raylet = node.all_processes["raylet"][0].process
    children: Callable[[], list[psutil.Process]] = psutil.Process(raylet.pid).children
    return [child for child in children() if "_Worker.work" in " ".join(child.cmdline())]


def undominated(points: dict[str, tuple[float, ...]]) -> list[str]:
    """By the definition."""

    def beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in points.values())

    return [key for key, own in points.items() if not beaten(own)]
