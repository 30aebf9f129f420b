"""What can become of a job besides an evaluation: kinds of failures, and which are worth another try. Runs nothing."""

import re

OUT_OF_MEMORY, WORKER_LOST, NODE_LOST, TIMEOUT = "out_of_memory", "worker_lost", "node_lost", "timeout"
EXPORT_UNSUPPORTED, NOT_FINITE = "export_unsupported", "nan"
# Somewhere else they may not happen again; what follows from the design itself happens everywhere.
WORTH_ANOTHER_TRY = frozenset({OUT_OF_MEMORY, WORKER_LOST, NODE_LOST, TIMEOUT})

_MEMORY = re.compile(r"out of memory|failed to allocate|bad_alloc|cannot allocate", re.IGNORECASE)
_EXPORT = re.compile(r"onnx|export|unsupportedoperator", re.IGNORECASE)


def kind_of(error: BaseException) -> str:
    """A short word to count failures by; the exception's class where it is none of the known kinds."""
    name, message = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or "OutOfMemory" in name or _MEMORY.search(message):
        return OUT_OF_MEMORY
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if isinstance(error, ValueError | FloatingPointError) and "not finite" in message:
        return NOT_FINITE
    if "Unsupported" in name and _EXPORT.search(f"{type(error).__module__} {name}"):
        return EXPORT_UNSUPPORTED
    return name
