"""Timing on the node of a cluster that is kept for it. Knows Ray and files; knows nothing of what is timed.

It is the one with the custom resource `timing` (`ray start --resources '{"timing": 1}'`). A timing task takes that and
all of the node's cores, so Ray lets nothing else run there meanwhile: neither this run's evaluations nor another's.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeAlias

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.runners.ray_pool import node_here, worker_environment
from spaces.errors import ConfigError

RESOURCE = "timing"

Work: TypeAlias = Callable[[Mapping[str, Any], int, Callable[[int, int], None]], Any]
Files: TypeAlias = Mapping[str, bytes]  # by path below a folder; "" for a single file


class RayLane:
    """The cluster's timing node; Ray must be connected.

    Args:
        work: makes of a plan and a number of threads what a fresh process does; told of every step.
        chips: of the machine where it is called, by device.

    Raises:
        ConfigError: no node has the resource.
    """

    def __init__(self, work: Work, chips: Callable[[str], str]) -> None:
        self._work = work
        self._chips = cache(lambda device: str(ray.get(self._look(chips).remote(device))))
        known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node for node in known if node["Alive"] and node["Resources"].get(RESOURCE)]
        if not nodes:
            raise ConfigError(
                f"No node of the cluster has the resource {RESOURCE!r}. Start one with: ray start --address=... "
                f"--resources='{{\"{RESOURCE}\": 1}}'"
            )
        self._sent: dict[str, Any] = {}
        environment: dict[str, Any] = {"runtime_env": {"env_vars": worker_environment()}}
        cores = nodes[0]["Resources"].get("CPU", 0)
        self._alone: Any = ray.remote(num_cpus=cores, resources={RESOURCE: 1}, **environment)
        # Looking takes no core, so it need not wait until whoever works there is done.
        there = NodeAffinitySchedulingStrategy(nodes[0]["NodeID"], soft=False)
        look: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": there, **environment}
        self._look: Any = ray.remote(**look)

    @staticmethod
    def offered() -> bool:
        """Whether the cluster has a node for timing."""
        there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return bool(there.get(RESOURCE))

    @cached_property
    def node(self) -> str:
        """The node, named as in trials.csv."""
        return str(ray.get(self._look(node_here).remote()))

    def chips(self, device: str) -> str:
        """Its processor, or its accelerators."""
        return self._chips(device)

    def run(self, plan: Mapping[str, Any], threads: int, report: Callable[[int, int], None]) -> Any:
        """What a fresh process on the node made of the plan; the models are sent along."""
        paths = sorted(set(_paths(plan)))
        # The next process of a measurement asks for the same ones; others are not needed again.
        self._sent = {path: self._sent.get(path) or ray.put(_packed(Path(path))) for path in paths}
        found = ray.get(self._alone(_timed).remote(self._work, dict(plan), paths, list(self._sent.values()), threads))
        report(1, 1)
        return found


def _paths(plan: Mapping[str, Any]) -> Iterator[str]:
    for contender in plan["contenders"]:
        yield contender["path"]
        if contender["after"]:
            yield contender["after"]


def _packed(path: Path) -> Files:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _timed(work: Work, plan: dict[str, Any], paths: list[str], sent: list[Any], threads: int) -> Any:
    """On the node: the same plan with the models where they are now."""
    with tempfile.TemporaryDirectory() as folder:
        moved = {
            path: _unpacked(ray.get(files), Path(folder) / str(number), path)
            for number, (path, files) in enumerate(zip(paths, sent, strict=True))
        }
        contenders = [
            {**each, "path": moved[each["path"]], "after": moved[each["after"]] if each["after"] else None}
            for each in plan["contenders"]
        ]
        return work({**plan, "contenders": contenders}, threads, lambda done, total: None)


def _unpacked(files: Files, folder: Path, path: str) -> str:
    """Where the files are now; a single one keeps its name, by which runtimes know its kind."""
    for name, content in files.items():
        file = folder / (name or Path(path).name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return str(folder / Path(path).name if "" in files else folder)
