"""The contract of a runtime: where a model really runs. Knows no framework."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evaluators.codebook import Codebook
from evaluators.compensation import InverseMoments
from evaluators.grades import Grades
from evaluators.tasks.base import Encoded
from spaces.design import Member
from spaces.shape import ModelShape

# By a linear's name, the root mean square of each of its inputs over tokens, (K,).
Spreads: TypeAlias = Mapping[str, NDArray[np.float32]]

PLAIN = "plain"  # the way every template knows to write a member


class Predictor(Protocol):
    """A loaded artefact: padded inputs, each (B, T), to logits (B, C) in float32."""

    def __call__(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]: ...


class Template(Protocol):
    """The original model, ready to be cut into members of it. Pickles; made once per run.

    Attributes:
        shape: the model's sizes.
        reads_first_token: whether the head is known to see the first token alone.
        inverse_moments: of the linears in whose members what stays stands in for what goes (compensation.py).
        ranking: ids of tokens, most needed first; empty: every member has the whole vocabulary.
        book: what rows of rare words are put together from; None: all rows are exact.
        grades: of tokens, by which rows are compressed; None: every member reads all tokens.
        graphs: names of the ways to write a member; they answer alike, and which is fastest depends on the machine.
    """

    @property
    def graphs(self) -> tuple[str, ...]: ...

    @property
    def shape(self) -> ModelShape: ...

    @property
    def reads_first_token(self) -> bool: ...

    @property
    def inverse_moments(self) -> InverseMoments: ...

    @property
    def ranking(self) -> tuple[int, ...]: ...

    @property
    def book(self) -> Codebook | None: ...

    @property
    def grades(self) -> Grades | None: ...

    def compensating(self, inverse_moments: InverseMoments) -> "Template":
        """The same template with such moments."""
        ...

    def with_vocabulary(self, ranking: Sequence[int], book: Codebook | None = None) -> "Template":
        """The same template with such a ranking and codebook."""
        ...

    def with_grades(self, grades: Grades) -> "Template":
        """The same template with such grades."""
        ...

    def untouched(self) -> bytes:
        """The original as a user would export it: the file of the `fair` baseline."""
        ...

    def assemble(self, member: Member, graph: str = PLAIN) -> bytes:
        """The member's real artefact as the bytes of its file; the template itself stays as it was."""
        ...

    def size(self, member: Member) -> int:
        """Predicted bytes of that file, within 1 %, without building it."""
        ...


@runtime_checkable
class Stages(Protocol):
    """A template that can also leave out the first layers of a member, whose states somebody kept."""

    def assemble_from(self, member: Member, start: int) -> bytes:
        """A file that reads the states entering layer `start` beside the inputs (none if 0: all layers run), and gives
        those that enter the layers behind it beside the logits."""
        ...


@runtime_checkable
class StagedPredictor(Protocol):
    """A loaded file of `Stages`."""

    def staged(
        self, inputs: Mapping[str, NDArray[np.int64]], states: Mapping[int, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
        """Logits (B, C), and by layer the states that enter it, from inputs, each (B, T), and the states given."""
        ...


@runtime_checkable
class Smooths(Protocol):
    """A template whose members can narrow wide inputs of linears where few bits round them.

    Attributes:
        spreads: by a linear's name, what it knows of its inputs; empty: all are rounded as they come.
    """

    @property
    def spreads(self) -> Spreads: ...

    def smoothing(self, spreads: Spreads) -> Template:
        """The same template with such spreads."""
        ...

    def spreads_on(self, rows: Encoded, progress: Callable[[int, int], None]) -> Spreads:
        """Those of the untouched original on calibration rows; `progress`: told (rows done, rows in all)."""
        ...


class Runtime(Protocol):
    """A place where models run.

    Attributes:
        name: as in the configuration.
        version: of the library behind it.
        bits: widths of weights that it really executes, widest first.
        steady: those of them in which an answer does not depend on what else is in its batch.
        filename: what the artefact's file is called in an exported folder.
    """

    name: str
    version: str
    bits: tuple[int, ...]
    steady: tuple[int, ...]
    filename: str

    def template(self, model: Any, *, pairs: bool = False) -> Template:
        """Prepare a fine-tuned `transformers` model; `pairs`: whether it is told which tokens are of a second text."""
        ...

    def load(self, artefact: bytes | Path, *, threads: int, device: str = "cpu") -> Predictor:
        """Open an artefact's file, or its bytes."""
        ...
