"""How a member's rows are answered: all of it at every row, or only the layers behind those that others share with it.

Knows artefacts and hidden states; knows nothing of figures, or of who asks for which member.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.runtimes.base import Predictor, Runtime, StagedPredictor, Stages, Template
from evaluators.tasks.base import Encoded
from spaces.design import Member, content_key

Logits = NDArray[np.float32]
Answer: TypeAlias = Callable[[Encoded], Logits]  # rows to (rows, classes), in their order
# Per batch of rows, what enters a layer: (B, T, hidden).
States = list[NDArray[np.float32]]


class Answering(Protocol):
    """Runs members."""

    def open(self, template: Template, member: Member, batch_size: int) -> Answer:
        """From rows, in as many calls as one likes, to the logits of the member's artefact."""
        ...


class Whole:
    """Assembles a member's artefact and runs it.

    Args:
        runtime: where members run.
        threads: of one session.
        device: likewise.
    """

    def __init__(self, runtime: Runtime, threads: int, device: str) -> None:
        self._runtime = runtime
        self._threads = threads
        self._device = device

    def open(self, template: Template, member: Member, batch_size: int) -> Answer:
        predictor = self._runtime.load(template.assemble(member), threads=self._threads, device=self._device)
        return lambda rows: run(predictor, rows, batch_size)


class PrefixReuse:
    """Runs a member from the first layer on in which it differs from all that ran before it, on states that were kept.

    The kept states are the very ones that the layers left out would compute, so answers are the same to the bit.

    Args:
        runtime, threads, device: as for `Whole`.
        most_bytes: of states that are kept; those not used for longest go first.
    """

    def __init__(self, runtime: Runtime, threads: int, device: str, most_bytes: int = 2 << 30) -> None:
        self._whole = Whole(runtime, threads, device)
        self._runtime = runtime
        self._threads = threads
        self._device = device
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, States] = OrderedDict()

    def open(self, template: Template, member: Member, batch_size: int) -> Answer:
        if not isinstance(template, Stages):
            return self._whole.open(template, member, batch_size)
        return lambda rows: self._logits(template, template.shape.layers, member, rows, batch_size)

    def _logits(self, template: Stages, layers: int, member: Member, rows: Encoded, batch_size: int) -> Logits:
        of = f"{batch_size} {_rows_key(rows)}"
        keys = [f"{prefix_key(member, layer)} {of}" for layer in range(layers)]
        start = max((layer for layer in range(1, len(keys)) if keys[layer] in self._kept), default=0)
        self._touch(keys)
        artefact = template.assemble_from(member, start)
        predictor = self._runtime.load(artefact, threads=self._threads, device=self._device)
        assert isinstance(predictor, StagedPredictor), f"{self._runtime.name} opens what its templates write"
        entering = self._kept[keys[start]] if start else None
        logits, behind = list[Logits](), dict[int, States]()
        for index, batch in enumerate(rows.batches(batch_size)):
            found, states = predictor.staged(batch, {} if entering is None else {start: entering[index]})
            logits.append(found)
            for layer, values in states.items():
                behind.setdefault(layer, []).append(values)
        self._keep({keys[layer]: states for layer, states in behind.items()})
        return rows.outputs(logits)

    def _touch(self, keys: Sequence[str]) -> None:
        """Its own first layers are those that the next member is likeliest to share; the first ones most of all."""
        for key in reversed(keys):
            if key in self._kept:
                self._kept.move_to_end(key)

    def _keep(self, states: dict[str, States]) -> None:
        self._kept.update(states)
        self._touch(list(states))
        while sum(map(_nbytes, self._kept.values())) > self._most_bytes:
            self._kept.popitem(last=False)


def run(predictor: Predictor, rows: Encoded, batch_size: int) -> Logits:
    """Logits (rows, classes) in the rows' order."""
    return rows.outputs([predictor(batch) for batch in rows.batches(batch_size)])


def run_sorted(predictor: Predictor, rows: Encoded, batch_size: int) -> Logits:
    """The same for models whose answers do not depend on the batch: sorted by length, so padding costs little."""
    return by_length(lambda each: run(predictor, each, batch_size))(rows)


def by_length(answer: Answer) -> Answer:
    """The same answers, computed for short rows first."""

    def answered(rows: Encoded) -> Logits:
        order = np.argsort(rows.lengths, kind="stable")
        return answer(rows.take(order.tolist()))[np.argsort(order)]

    return answered


def prefix_key(member: Member, layer: int) -> str:
    """Stands for all that the states entering `layer` depend on besides the rows."""
    decoded = member.decoded
    behind = decoded["layers"][layer:]
    return content_key(
        {
            **{name: share for name, share in decoded.items() if name != "head"},
            "layers": decoded["layers"][:layer],
            # Where no later layer attends, a classifier may need the states of its first token alone.
            "attended": any(units is not None and bool(units["heads"]) for units in behind),
            "weights": member.weights,
        }
    )


def _rows_key(rows: Encoded) -> str:
    digest = hashlib.sha256(str(rows.lengths).encode())
    for row in rows.inputs:
        digest.update(next(iter(row.values())).tobytes())
    return digest.hexdigest()


def _nbytes(states: States) -> int:
    return sum(values.nbytes for values in states)
