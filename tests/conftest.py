"""Same seeds, one thread, no network and no chatter for every test."""

import os
import sys

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
)

import pytest
from hypothesis import settings

settings.register_profile("project", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    """Random tiny models are the same in every run; nothing to do for tests that load no torch."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
