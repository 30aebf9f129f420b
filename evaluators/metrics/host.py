"""This machine, as found: processor, instruction sets, libraries. Knows the host; knows nothing of models or clocks."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from spaces.target import Device, Target

# Instruction sets that decide how fast int8 and bf16 run, and which answers int8 gives.
VECTOR_FLAGS = frozenset(
    {
        *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
        *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
        *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
        *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme"),
    }
)
LIBRARIES = (
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "optuna",
    "ray",
    "scikit-learn",
    "datasets",
)
CPUINFO = Path("/proc/cpuinfo")


def describe_host() -> dict[str, Any]:
    """Processor, vector flags, cores, accelerators, operating system, Python and libraries; JSON-able, for env.json."""
    cpu = _cpuinfo()
    return {
        "processor": processor_name(cpu),
        "vector_flags": vector_flags(cpu),
        "cores": usable_cores(),
        "accelerators": list(accelerators()),
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": versions(LIBRARIES),
    }


def this_target(
    runtime_name: str,
    runtime_version: str,
    threads: int,
    batch_size: int,
    lengths: int | Literal["real"],
    device: Device = "cpu",
) -> Target:
    """A serving situation on this machine, labelled `here`."""
    return Target(
        label="here",
        device=device,
        processor=chips(device),
        runtime=runtime_name,
        runtime_version=runtime_version,
        threads=threads,
        batch_size=batch_size,
        lengths=lengths,
    )


def host_label() -> str:
    """This machine's name as the label of a target."""
    return re.sub(r"[^\w.-]", "-", platform.node()) or "device"


def chips(device: str) -> str:
    """This machine's processor with its vector instructions, or its accelerators."""
    cpu = _cpuinfo()
    return "; ".join(accelerators()) if device == "cuda" else f"{processor_name(cpu)}; {' '.join(vector_flags(cpu))}"


def git_commit(folder: Path) -> str | None:
    """The commit checked out around `folder`, `-dirty` if tracked files differ; None outside a repository."""
    return _output("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*")


def usable_cores() -> int:
    """Cores that this process may use (a container may have fewer than the machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerators() -> tuple[str, ...]:
    """Names of the NVIDIA devices that the driver lists; empty without one."""
    listed = _output("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader") or ""
    return tuple(line.strip() for line in listed.splitlines() if line.strip())


def processor_name(cpu: Mapping[str, str]) -> str:
    """Model name with family and model number: virtual machines often hide the name behind a general one."""
    name = cpu.get("model name") or platform.processor() or platform.machine()
    numbers = [
        f"{field} {cpu[field]}" for field in ("cpu family", "model", "CPU implementer", "CPU part") if field in cpu
    ]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def vector_flags(cpu: Mapping[str, str]) -> list[str]:
    """The flags among VECTOR_FLAGS that the processor reports, sorted (x86 calls them flags, Arm features)."""
    return sorted(VECTOR_FLAGS.intersection((cpu.get("flags") or cpu.get("Features") or "").split()))


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The first processor's fields of a /proc/cpuinfo."""
    fields = {}
    for line in text.strip().split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _cpuinfo() -> dict[str, str]:
    return parse_cpuinfo(CPUINFO.read_text()) if CPUINFO.exists() else {}


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Of the distributions among `names` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _output(*command: str) -> str | None:
    """What a command printed; None where it is not installed or refuses."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
