"""The cores that instances of a model may have. Knows the operating system; knows nothing of models or processes."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

Core: TypeAlias = tuple[int, ...]  # numbers of the logical processors that share one physical core

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


def physical_cores(topology: Path = _TOPOLOGY) -> tuple[Core, ...]:
    """Physical cores on which this process may run; where siblings are not told, every processor counts as one."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores: dict[str, list[int]] = {}
    for processor in allowed:
        siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        cores.setdefault(siblings.read_text() if siblings.exists() else str(processor), []).append(processor)
    return tuple(tuple(processors) for processors in cores.values())


def core_quota(cgroup: Path = _CGROUP) -> float | None:
    """Cores' worth of time that a container grants, which may be less than the cores it shows; None: no bound."""
    for quota, period in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        if not (cgroup / quota).is_file():
            continue
        words = (cgroup / quota).read_text().split()
        words += [] if period is None else (cgroup / period).read_text().split()
        return None if words[0] in ("max", "-1") else int(words[0]) / int(words[1])
    return None


def usable_instances(threads: int) -> int:
    """How many instances of `threads` threads each fill this machine: physical cores / threads, at least one."""
    quota = core_quota()
    cores = len(physical_cores())
    return max(1, (cores if quota is None else min(cores, int(quota))) // threads)


def shares(cores: Sequence[Core], instances: int, threads: int) -> list[tuple[int, ...]]:
    """Per instance the logical processors it is pinned to: all cores dealt out evenly, neighbours together.

    Instances that do not fill the machine share all of it, so that two of these programs do not crowd on the first
    few cores. Empty, that is unpinned, where there are fewer than `threads` cores for each.
    """
    if instances * threads > len(cores):
        return [()] * instances
    edges = [len(cores) * edge // instances for edge in range(instances + 1)]
    return [tuple(number for core in cores[start:stop] for number in core) for start, stop in pairwise(edges)]
