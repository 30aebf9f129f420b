"""An instance without a model: knows how to answer with lengths, and how to die. Started by tests of the pool."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.instance_worker import Model, main
from evaluators.pool import Setup
from spaces.errors import ModelError


def echo(setup: Setup) -> Model:
    """A model whose logits are the text's letters and the first processor that it may run on."""
    _obey(setup.folder)
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0

    def of_texts(texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        for text in texts:
            _obey(text)
        return np.asarray([(len(text), core) for text in texts], dtype=np.float32)

    return Model(
        ("letters", "core"), of_texts, lambda kept: lambda rows, size: of_texts([kept[row] for row in rows], size)
    )


def _obey(text: str) -> None:
    word, _, rest = text.partition(" ")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "die-once" and not Path(rest).exists():
        Path(rest).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "fail":
        raise ValueError("odd text")
    elif word == "no-model":
        raise ModelError("no model here")
    elif word == "wait":
        time.sleep(0.02)


if __name__ == "__main__":
    main(echo)
