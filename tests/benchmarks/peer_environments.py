"""Python environments of their own for the peers. Knows pins, `venv` and pip; knows nothing of models.

Peers need versions of common libraries that neither each other nor this project may need, and none of them belongs to
the project's requirements.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evaluators.cache import cache_folder
from evaluators.metrics.launch import THREAD_VARIABLES

_LOADS_THE_CHECKPOINT = ("torch==2.13.0", "transformers==5.23.0")
# First the peer itself, then what it needs beside it.
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "olive": (
        "olive-ai==0.13.0",
        "onnx==1.23.2",
        "onnxruntime==1.31.1",
        "onnxscript==0.7.2",
        "requests==2.34.2",  # imported and not declared
        *_LOADS_THE_CHECKPOINT,
    ),
    "ctranslate2": ("ctranslate2==4.8.5", *_LOADS_THE_CHECKPOINT),
    "openvino": ("openvino==2026.4.1", "nncf==3.4.0", *_LOADS_THE_CHECKPOINT),
    # What people open exported models with; optimum-onnx needs an older transformers.
    "loaders": (
        "optimum-onnx==0.1.0",
        "sentence-transformers==5.7.0",
        "onnxruntime==1.32.0",
        "torch==2.13.0",
        "transformers==4.57.6",
    ),
}
_INSTALLED = "requirements.json"
_VERSIONS = """\
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class PeerError(Exception):
    """A peer cannot be installed, or cannot do what it is asked for; the message is its own."""


def ensure_environment(name: str, say: Callable[[str], None]) -> Path:
    """The Python of a peer's environment, made on first use and whenever its pins change.

    Raises:
        PeerError: pip cannot install it.
    """
    folder = cache_folder() / "peers" / name
    python, installed, asked = folder / "bin" / "python", folder / _INSTALLED, list(REQUIREMENTS[name])
    if installed.exists() and json.loads(installed.read_text()) == asked:
        return python
    say(f"{name}: installing {', '.join(asked)}")
    installed.unlink(missing_ok=True)
    run([sys.executable, "-m", "venv", "--clear", str(folder)])
    run([str(python), "-m", "pip", "install", "--quiet", *asked])
    installed.write_text(json.dumps(asked))
    return python


def installed_versions(name: str) -> str:
    """What is installed of a peer's requirements, as its own environment tells."""
    python = cache_folder() / "peers" / name / "bin" / "python"
    distributions = [requirement.partition("==")[0] for requirement in REQUIREMENTS[name]]
    versions = json.loads(run([str(python), "-c", _VERSIONS, *distributions]))
    return ", ".join(f"{distribution} {version}" for distribution, version in versions.items())


def run(command: Sequence[str], paths: Sequence[Path] = ()) -> str:
    """What a command printed.

    Args:
        command: program and arguments.
        paths: where Python finds modules beside its environment's own.

    Raises:
        PeerError: it failed; the message is the last line of its errors.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(paths))
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise PeerError(lines[-1].strip() if lines else f"{command[0]} ended with code {done.returncode}")
    return done.stdout


def environment(paths: Sequence[Path] = ()) -> dict[str, str]:
    """Ours with one thread per library, no downloads, no reports of use, and `paths` in place of our modules.

    Olive, OpenVINO and NNCF tell their makers of their use, but not where `CI` is set.
    """
    limits = dict.fromkeys(THREAD_VARIABLES, "1")
    return {**os.environ, **limits, "HF_HUB_OFFLINE": "1", "CI": "true", "PYTHONPATH": os.pathsep.join(map(str, paths))}
