"""The public face: `import paretoformer as pf`. Knows where names live; nothing inside the project imports it.

What needs a model library is imported on first use, so the import itself takes a fraction of a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from search.guard import check_folders
from spaces.axes.pruning import PruningAxis
from spaces.axes.quantization import QuantizationAxis
from spaces.design import Design, Member
from spaces.errors import InfeasibleError, ParetoformerError
from spaces.objectives import Limit, Objective
from spaces.space import Space
from spaces.target import Target

if TYPE_CHECKING:
    from evaluators.artifact import Artifact
    from search.config import RunConfig
    from search.front_file import read as read_front
    from search.run import resume, search
    from search.select import select

check_folders()

__all__ = [
    "Artifact",
    "Design",
    "InfeasibleError",
    "Limit",
    "Member",
    "Objective",
    "ParetoformerError",
    "PruningAxis",
    "QuantizationAxis",
    "RunConfig",
    "Space",
    "Target",
    "read_front",
    "resume",
    "search",
    "select",
]

# Public name: module and name there.
_ON_FIRST_USE = {
    "Artifact": ("evaluators.artifact", "Artifact"),
    "RunConfig": ("search.config", "RunConfig"),
    "read_front": ("search.front_file", "read"),
    "resume": ("search.run", "resume"),
    "search": ("search.run", "search"),
    "select": ("search.select", "select"),
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'paretoformer' has no attribute {name!r}. It has: {', '.join(__all__)}.")
    module, attribute = _ON_FIRST_USE[name]
    return getattr(import_module(module), attribute)
