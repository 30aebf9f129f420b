"""Instances of a model: no row lost or out of order whatever dies, cores of their own, and honest rows per second."""

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from evaluators import cores, instances, pool
from evaluators.artifact import Artifact
from evaluators.instances import Throughput
from evaluators.pool import Pool, Setup, Task
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from spaces.errors import ModelError, ParetoformerError
from tests.tiny_export import TEXTS, export
from tests.tiny_task import write_encoder

ECHO = "tests.echo_worker"


def echoes(number: int, folder: str = "", kept: tuple[str, ...] = ()) -> Pool:
    return Pool(Setup(folder, kept=kept), number, ECHO)


def singles(*texts: str) -> list[Task]:
    return [Task((row,), 1, (text,)) for row, text in enumerate(texts)]


def gone(pid: int) -> bool:
    """Whether a process has ended and been waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_answers_come_in_the_order_of_the_tasks() -> None:
    texts = ["wait a while", *("x" * length for length in (5, 3, 9, 1, 2, 8, 4))]
    with echoes(2) as several:
        answered = list(several.run(singles(*texts)))
        assert several.classes == ("letters", "core")
    assert [task.rows for task, _ in answered] == [(row,) for row in range(len(texts))]
    assert [int(logits[0, 0]) for _, logits in answered] == [len(text) for text in texts]


def test_a_killed_instance_loses_no_row(caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"wait {row}" for row in range(30)]
    with echoes(2) as several:
        killed = several.pids[0]
        rows: list[int] = []
        for task, _ in several.run(singles(*texts)):
            rows += task.rows
            if task.rows == (3,):
                os.kill(killed, signal.SIGKILL)
        assert rows == list(range(30))
        assert gone(killed)
        assert len(several.pids) == 2
        assert killed not in several.pids
    assert "signal 9" in caplog.text


def test_a_task_whose_instance_died_is_done_again(tmp_path: Path) -> None:
    texts = ["a", f"die-once {tmp_path / 'dead'}", "ccc"]
    with echoes(1) as one:
        assert [int(logits[0, 0]) for _, logits in one.run(singles(*texts))] == [len(text) for text in texts]


def test_rows_that_end_every_instance_are_named() -> None:
    several = echoes(2)
    tasks = [Task((0, 1, 2, 6), 1, ("a", "b", "die", "c")), Task((3,), 1, ("d",))]
    with pytest.raises(ParetoformerError, match=r"Rows 1-3, 7 .* ended 3 instances .* signal 9"):
        list(several.run(tasks))
    assert several.pids == ()


def test_rows_that_cannot_be_answered_are_named_and_not_tried_again() -> None:
    with echoes(1) as one, pytest.raises(ParetoformerError, match=r"ValueError: odd text .* rows 2 \(counted"):
        list(one.run(singles("a", "fail")))


def test_models_that_cannot_be_opened_end_it() -> None:
    with pytest.raises(ModelError, match="no model here"):
        echoes(2, folder="no-model").start()
    with pytest.raises(ParetoformerError, match="3 instances in a row ended with signal 9"):
        echoes(1, folder="die").start()


def test_tasks_are_read_as_they_are_needed() -> None:
    read = []

    def endless() -> Iterator[Task]:
        for row in range(10**9):
            read.append(row)
            yield Task((row,), 1, ("x",))

    with echoes(1) as one:
        answers = one.run(endless())
        for _ in range(20):
            next(answers)
    assert len(read) <= 20 + pool._AHEAD + 1


def test_leaving_early_ends_the_instances() -> None:
    several = echoes(2)
    pids = several.pids
    answers = several.run(singles(*["wait"] * 20))
    next(answers)
    answers.close()
    assert all(map(gone, pids))
    with pytest.raises(ValueError, match="closed"):
        next(several.run(singles("a")))


@pytest.mark.skipif(len(cores.physical_cores()) < 2, reason="needs two cores")
def test_each_instance_has_cores_of_its_own() -> None:
    with echoes(2, kept=("wait",)) as several:
        several.start()
        used = {int(logits[0, 1]) for _, logits in several.run([Task((0,), 1)] * 6)}
    assert len(used) == 2


def test_cores_are_dealt_out_evenly_or_not_at_all() -> None:
    four = [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert cores.shares(four, 2, threads=1) == [(0, 4, 1, 5), (2, 6, 3, 7)]
    assert cores.shares(four, 3, threads=1) == [(0, 4), (1, 5), (2, 6, 3, 7)]
    assert cores.shares(four, 4, threads=2) == [(), (), (), ()]


def test_hyperthreads_count_as_one_core(tmp_path: Path) -> None:
    allowed = [number for core in cores.physical_cores() for number in core]
    for number in allowed:
        (tmp_path / f"cpu{number}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list").write_text(f"{allowed[0]}-{allowed[-1]}\n")
    assert cores.physical_cores(tmp_path) == (tuple(allowed),)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "250000 100000"}, 2.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
    ],
)
def test_a_container_s_quota_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cores.core_quota(tmp_path) == quota


def test_auto_fills_the_machine_and_more_is_remarked_on() -> None:
    most = cores.usable_instances(1)
    assert instances.count("auto", 1) == most
    assert instances.count("auto", 10**6) == 1
    assert instances.crowding("auto", 1) is None
    assert f"more than {most}" in (instances.crowding(most + 1, 1) or "")


def test_tasks_hold_rows_of_like_length_and_every_row_once() -> None:
    rng = np.random.default_rng(0)
    texts = ["x" * length for length in rng.integers(1, 200, size=1500)]
    found = list(instances.tasks(texts, batch_size=8))
    assert sorted(row for task in found for row in task.rows) == list(range(1500))
    assert all(task.texts == tuple(texts[row] for row in task.rows) for task in found)
    window = [[len(text) for text in task.texts or ()] for task in found[:8]]
    assert all(max(shorter) <= min(longer) for shorter, longer in pairwise(window))
    singly = list(instances.tasks(texts, batch_size=1))
    assert [row for task in singly for row in task.rows] == list(range(1500))


def measured(*samples: float) -> Throughput:
    return Throughput(2, 1, 8, samples, tuple(sample / 2 for sample in samples))


def test_throughput_is_a_median_with_its_range_and_a_paired_ratio() -> None:
    base, found = measured(100, 110, 90), measured(300, 330, 270)
    assert (found.rows_per_second, found.low, found.high) == (300, 270, 330)
    assert found.text_rows_per_second == 150
    assert found.ratio(base, seed=0) == pytest.approx((3.0, 3.0, 3.0))  # what slows a round slows both
    with pytest.raises(ValueError, match="do not pair"):
        found.ratio(measured(1, 2), seed=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(OnnxRuntime(), tmp_path_factory.mktemp("export") / "model")


def test_instances_answer_like_one_process(model: Path) -> None:
    texts = [*TEXTS, "film " * 9] * 40
    expected = Artifact.open(model).predict(texts)
    for number in (None, 2):
        found = list(instances.predict(model, iter(texts), instances=number, batch_size=3))
        assert [one.label for one in found] == [one.label for one in expected]
        np.testing.assert_allclose([one.score for one in found], [one.score for one in expected], atol=1e-5)


def test_what_is_no_exported_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no design\.json"):
        list(instances.predict(tmp_path, ["a"], instances=1))
    with pytest.raises(ModelError, match="a checkpoint"):
        list(instances.predict(write_encoder(tmp_path / "tiny"), ["a"], instances=1))


@pytest.mark.slow
@pytest.mark.timing
def test_throughput_of_an_export_beside_a_checkpoint(model: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = instances.throughput(
        {"ours": model, "pipeline": write_encoder(tmp_path / "tiny")},
        TEXTS * 10,
        instances=2,
        batch_size=(1, 4),
        rounds=2,
        seconds=0.1,
        seed=0,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (found["ours"].instances, found["ours"].threads) == (2, 1)
    assert found["ours"].batch_size in (1, 4)
    plain = found["pipeline"]
    assert (plain.instances, plain.threads, plain.batch_size) == (1, cores.usable_instances(1), 1)
    assert all(len(each.samples) == len(each.text_samples) == 2 for each in found.values())
    assert all(rate > 0 for each in found.values() for rate in (*each.samples, *each.text_samples))
    assert steps == [(done, 6) for done in range(6)]
    assert found["ours"].ratio(plain, seed=0)[0] > 1
