"""Running the latency worker in a fresh process. Knows processes and messages; knows nothing of what is timed."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import evaluators
from spaces.errors import ParetoformerError

WORKER = "evaluators.metrics.latency_worker"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_worker(plan: Mapping[str, Any], threads: int, report: Callable[[int, int], None]) -> Any:
    """What the worker wrote for `plan`.

    Args:
        plan: everything the worker needs, JSON-able.
        threads: threads that libraries may start in it.
        report: told the steps done and in all, whenever the worker begins one; loading is no step.

    Raises:
        ParetoformerError: the worker died; the message names the contender it was busy with and quotes its stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec, out, errors = (Path(folder) / name for name in ("plan.json", "result.json", "stderr.txt"))
        spec.write_text(json.dumps({**plan, "out": str(out)}))
        with errors.open("w") as stderr:
            code, busy = _follow([sys.executable, "-m", WORKER, str(spec)], _environment(threads), stderr, report)
        if code != 0:
            tail = "\n".join(errors.read_text(errors="replace").splitlines()[-5:])
            raise ParetoformerError(f"The timing process ended with code {code} while {busy}. It said last:\n{tail}")
        return json.loads(out.read_text())


def _follow(
    command: list[str], environment: Mapping[str, str], stderr: IO[str], report: Callable[[int, int], None]
) -> tuple[int, str]:
    """The exit code of `command`, and what it last said it was doing."""
    busy = "starting"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                message = _message(line)
                if message is not None:
                    busy = f"{message['doing']} {message['contender']!r}"
                    if message["total"]:
                        report(message["done"], message["total"])
        except BaseException:
            process.kill()
            raise
    return process.returncode, busy


def _message(line: str) -> dict[str, Any] | None:
    """A worker's message; None for anything else that a library may print."""
    if not line.startswith('{"doing":'):
        return None
    message: dict[str, Any] = json.loads(line)
    return message


def _environment(threads: int) -> dict[str, str]:
    """Ours, with the packages of this process found first and the libraries' threads limited."""
    root = str(Path(evaluators.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": os.pathsep.join(paths)}
