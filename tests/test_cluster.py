"""Nodes come and go: workers follow them, and no job is lost. Several raylets on this machine stand for nodes."""

import csv
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.base import Score
from evaluators.metrics.host import chips
from evaluators.metrics.lane import LocalLane
from evaluators.metrics.latency import Contender, Measurement, measure
from evaluators.metrics.launch import run_worker
from evaluators.runtimes.onnxruntime.random_encoder import random_encoder
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.runners.base import Runner
from spaces.errors import ConfigError
from spaces.objectives import Complete, Evaluation
from spaces.shape import ModelShape
from spaces.target import Target
from tests.tiny_task import SHORT, write_encoder, write_rows
from tests.worker_evaluators import Devices

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[1]
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


def devices(runner: Runner, jobs: int) -> list[Complete]:
    """What every worker saw of the GPUs that Ray gave it; all of them at once."""
    for _ in range(jobs):
        runner.submit(job())
    ended = [runner.next_done() for _ in range(jobs)]
    outcomes = [evaluation.outcome for evaluation in ended if evaluation is not None]
    assert all(isinstance(outcome, Complete) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Complete)]


def test_every_worker_sees_the_gpu_that_is_its_own(cluster: Any) -> None:
    from search.runners.ray_pool import RayRunner

    cluster.add_node(num_cpus=4, num_gpus=2, object_store_memory=100 * 2**20)
    with closing(RayRunner(Devices, workers=2, gpus_per_worker=1)) as runner:
        found = devices(runner, 2)
    assert sorted(each.extras["device"] for each in found) == [0, 1]
    assert {each.extras["visible"] for each in found} == {1}


def test_workers_share_a_gpu_by_fractions(cluster: Any) -> None:
    from search.runners.ray_pool import RayRunner

    cluster.add_node(num_cpus=4, num_gpus=2, object_store_memory=100 * 2**20)
    with closing(RayRunner(Devices, workers=4, gpus_per_worker=0.5)) as runner:
        found = devices(runner, 4)
    assert sorted(each.extras["device"] for each in found) == [0, 0, 1, 1]
    with closing(RayRunner(Devices, workers=None, gpus_per_worker=1)) as runner:
        assert runner.slots == 2  # one per GPU, though there are cores for more


def test_workers_without_a_gpu_see_none(cluster: Any) -> None:
    from search.runners.ray_pool import RayRunner

    cluster.add_node(num_cpus=4, num_gpus=2, object_store_memory=100 * 2**20)
    with closing(RayRunner(Devices, workers=2)) as runner:
        assert {each.extras["visible"] for each in devices(runner, 2)} == {0}


class TestTimingLane:
    @pytest.fixture
    def contender(self, tmp_path: Path) -> Contender:
        shape = ModelShape(layers=1, heads=2, head_size=8, ffn=32, hidden=16, vocab=50)
        path = tmp_path / "model.onnx"
        path.write_bytes(random_encoder(shape, seed=0).untouched())
        return Contender("fair", "onnxruntime", path)

    def time(self, contender: Contender, lane: Any) -> Measurement:
        row = {"input_ids": np.arange(5), "attention_mask": np.ones(5, np.int64)}
        return measure([contender], [row], target=Target(), rounds=2, processes=2, seed=0, lane=lane)

    def test_latencies_are_measured_on_the_node_that_is_kept_for_it(self, cluster: Any, contender: Contender) -> None:
        from search.runners.ray_lane import RayLane

        assert not RayLane.offered()
        with pytest.raises(ConfigError, match="resource 'timing'"):
            RayLane(run_worker, chips)
        node = cluster.add_node(num_cpus=1, resources={"timing": 1}, object_store_memory=100 * 2**20)
        cluster.wait_for_nodes()
        lane = RayLane(run_worker, chips)
        measured = self.time(contender, lane)
        assert {row.node.rpartition("/")[2] for row in measured.timings} == {node.node_id[:8]}
        assert measured["fair"].processes == 2
        assert lane.chips("cpu") == LocalLane().chips("cpu")

    def test_it_waits_until_the_node_s_cores_are_free(self, cluster: Any, contender: Contender) -> None:
        from search.runners.ray_lane import RayLane
        from search.runners.ray_pool import RayRunner

        cluster.add_node(num_cpus=1, resources={"timing": 1}, object_store_memory=100 * 2**20)
        cluster.wait_for_nodes()
        runner = RayRunner(partial(SyntheticEvaluator, seconds=4), workers=2)  # one on either node
        runner.submit(job())
        runner.submit(job())
        ended: list[Evaluation] = []

        def finish() -> None:
            with closing(runner):
                ended.extend(evaluation for _ in range(2) if (evaluation := runner.next_done()) is not None)

        thread = threading.Thread(target=finish)
        thread.start()
        measured = self.time(contender, RayLane(run_worker, chips))
        thread.join()
        assert len(ended) == 2
        begun = min(row.started for row in measured.timings)
        assert all(evaluation.started + evaluation.seconds <= begun for evaluation in ended)


def test_a_search_uses_both_nodes_and_times_with_nothing_beside(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1, resources={"timing": 1}, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    rows, encoder, run = (
        write_rows(tmp_path / "rows.csv", rows=600),
        write_encoder(tmp_path / "encoder"),
        tmp_path / "run",
    )
    (tmp_path / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\nspace: {{pruning: {{ffn_group: 16}}}}\n"
        f"search: {{trials: 16, rows: 60}}\n{SHORT}"
    )
    command = [sys.executable, "-m", "search.cli", "search", str(tmp_path / "run.yaml"), "--out", str(run)]
    environment = {**os.environ, "PARETOFORMER_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--address", cluster.address], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trials = list(csv.DictReader((run / "trials.csv").read_text().splitlines()))
    timings = list(csv.DictReader((run / "timings.csv").read_text().splitlines()))
    lane = {row["node"] for row in timings}
    assert len(lane) == 1
    assert {trial["node"] for trial in trials} > lane  # both nodes evaluated, the one with the lane among them
    assert {row["member"] for row in timings} > {"fair", "one_liner"}
    assert not [(trial["key"], row["member"]) for trial in trials for row in timings if overlap(trial, row)]


def overlap(trial: Mapping[str, str], timing: Mapping[str, str]) -> bool:
    """Whether a design was evaluated on a node while it timed."""
    begun, ended = (datetime.fromisoformat(trial[name]).timestamp() for name in ("started", "ended"))
    return trial["node"] == timing["node"] and begun < float(timing["ended"]) and float(timing["started"]) < ended


def test_nodes_get_the_code_from_the_driver(cluster: Any, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys\n"
        "from contextlib import closing\n"
        "from evaluators.base import Score\n"
        "from evaluators.synthetic import synthetic_space\n"
        "from search.runners import ray_pool\n"
        "from spaces.objectives import Evaluation, Failed\n"
        "class Where:\n"  # of the script, so it travels by value
        "    def evaluate(self, job):\n"
        "        import spaces\n"
        "        return Evaluation(job.key, Failed('code', spaces.__file__))\n"
        "space = synthetic_space()\n"
        "with closing(ray_pool.RayRunner(Where, workers=1, address=sys.argv[1])) as runner:\n"
        "    runner.submit(Score(space.decode(space.identity())))\n"
        "    print(runner.next_done().outcome.message)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), cluster.address]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "py_modules" in done.stdout, done.stdout + done.stderr
