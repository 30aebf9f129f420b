"""Where downloads and fine-tuned checkpoints are kept. Knows one folder; knows nothing of what lies in it."""

import os
from pathlib import Path

VARIABLE = "PARETOFORMER_CACHE"


def cache_folder() -> Path:
    """The folder named by the environment variable PARETOFORMER_CACHE, else the user's cache; made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(VARIABLE) or Path(base) / "paretoformer").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
