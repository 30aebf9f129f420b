"""A run's record in PostgreSQL, as a team with one database for all its studies keeps it."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.loop import Meter, run
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from spaces.errors import RunError
from spaces.objectives import KL, LATENCY, SIZE

pytestmark = [
    pytest.mark.slow,
    # Optuna leaves closing its connections to the garbage collector, which is called while this holds.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[1]
SPACE = synthetic_space(4)
# A search of its own process, slow enough to be killed in the middle.
DRIVER = """
import sys
from functools import partial
from pathlib import Path
from evaluators.synthetic import SyntheticEvaluator
from search.runners.inline import InlineRunner
from tests.test_postgres import searched
searched(Path(sys.argv[1]), sys.argv[2], 1000, InlineRunner(partial(SyntheticEvaluator, seconds=0.05)))
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of our own, reached through a socket in a folder of its own; the server refuses to run as root."""
    pytest.importorskip("psycopg")
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path(shutil.which("initdb") or "/nowhere").parents[:1]]
    program = next((folder for folder in programs if (folder / "initdb").exists()), None)
    if program is None:
        pytest.skip("PostgreSQL is not installed; .ci/run installs it where it may")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        as_user = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]

        def call(name: str, *arguments: str) -> None:
            command = [*as_user, str(program / name), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

        call("initdb", "-U", "postgres", "--auth=trust", "--no-sync")
        call("pg_ctl", "-w", "-l", f"{folder}/log", "-o", f"-c listen_addresses='' -k {folder}", "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-m", "fast", "stop")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


def searched(folder: Path, url: str, trials: int, runner: InlineRunner) -> Record:
    """A search in `folder` with its record at `url`; goes on if there is one."""
    if Record.exists(folder, storage=url):
        record = Record.open(folder, storage=url)
    else:
        record = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=(), storage=url)
    sampler = AutoSampler(record, SPACE, seeds=SPACE.seeds(), seed=0, trials=trials)
    run(SPACE, sampler, runner, record, rows=None, meter=Meter(trials))
    return record


def test_a_killed_driver_loses_nothing_and_another_run_shares_the_database(tmp_path: Path, url: str) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    searched(other, url, 8, InlineRunner(SyntheticEvaluator))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(first), url], cwd=ROOT)
    until = time.monotonic() + 60
    while not Record.exists(first, storage=url) or Record.open(first, storage=url).counts()["complete"] < 10:
        assert time.monotonic() < until, "the driver did not come to 10 trials"
        time.sleep(0.3)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(timeout=30)
    before = {trial.key for trial in Record.open(first, storage=url).finished()}
    record = searched(first, url, len(before) + 20, InlineRunner(SyntheticEvaluator))
    counts, keys = record.counts(), [trial.key for trial in record.trials()]
    assert (counts["complete"], counts["running"]) == (len(before) + 20, 0)
    assert len(set(keys)) == len(keys)
    assert before <= set(keys)
    assert Record.open(other, storage=url).counts()["complete"] == 8
    assert record.study.study_name == "first/search"


def test_a_server_that_is_down_is_named(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    nowhere = f"postgresql+psycopg://postgres@/postgres?host={tmp_path}"
    with pytest.raises(RunError, match="cannot be opened as an Optuna storage"):
        Record.exists(tmp_path, storage=nowhere)
