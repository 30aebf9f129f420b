"""Tensors of an artefact, cut and in few bits, computed only when wanted. Knows arrays and widths; knows no graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.codebook import Codebook
from evaluators.compensation import Doubles, compensated
from evaluators.runtimes.onnxruntime import quantize
from evaluators.runtimes.onnxruntime.quantize import Blocks, Columns, Floats

Indices = Sequence[int] | None  # None: all of them
_KEPT = 4  # selections of rows that a matrix remembers


@dataclass(frozen=True)
class Tensor:
    """An initializer to be: its shape is known, its values are computed on demand."""

    dtype: type[np.generic]
    shape: tuple[int, ...]
    values: Callable[[], NDArray[Any]]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Rare:
    """Which rows of a word table are exact, and what the others are put together from.

    Args:
        exact: ids of tokens, ascending.
        others: the remaining ids, ascending.
        book: codes by id.
    """

    exact: tuple[int, ...]
    others: tuple[int, ...]
    book: Codebook

    def places(self) -> Tensor:
        """By id the place among exact rows or, behind them, among the others, (V,)."""
        count = len(self.exact) + len(self.others)

        def values() -> NDArray[Any]:
            order = np.empty(count, np.int32)
            order[[*self.exact, *self.others]] = np.arange(count, dtype=np.int32)
            return order

        return Tensor(np.int32, (count,), values)

    def codes(self) -> Tensor:
        """Of the others, (R, M)."""
        width = self.book.codes.shape[1]
        return Tensor(np.uint8, (len(self.others), width), lambda: self.book.codes[list(self.others)])

    def parts(self) -> Tensor:
        """One under the other, (M * 256, D / M), in half precision."""
        parts = self.book.parts
        shape = (parts.shape[0] * parts.shape[1], parts.shape[2])
        return Tensor(np.float16, shape, lambda: parts.reshape(shape).astype(np.float16))

    def offsets(self) -> Tensor:
        """Where the parts of each column begin, (M,)."""
        columns, known, _ = self.book.parts.shape
        return Tensor(np.int32, (columns,), lambda: known * np.arange(columns, dtype=np.int32))


class Matrix:
    """A weight (K, N) of the original with its bias (N,), and what was computed from them before.

    Whole matrices and selections of columns (outputs) come from one rounding of the whole, which is exact because no
    scale spans two columns; a selection of rows (inputs) is rounded anew, and refitted first if moments are given.

    Args:
        values: (K, N).
        bias: (N,).
        inverse_moments: (K + 1, K + 1), of its inputs; None: nothing stands in for those that go.
        spread: (K,), root mean square of each input; None: 8 bits round inputs as they come.
    """

    def __init__(
        self,
        values: Floats,
        bias: Floats,
        inverse_moments: Doubles | None = None,
        spread: Floats | None = None,
    ) -> None:
        self.values = values
        self.bias = bias
        self._spread = spread
        self._inverse = inverse_moments
        self._refitted: dict[tuple[int, ...], Matrix] = {}
        self._columns: Columns | None = None
        self._blocks: Blocks | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @cached_property
    def smoothing(self) -> Floats | None:
        """By what inputs are divided before 8 bits round them, (K,); None: nothing."""
        return None if self._spread is None else quantize.smoothing(self._spread, self.values)

    def cut(self, rows: Indices, columns: Indices) -> "Cut":
        """The selection that stays."""
        return Cut(self, rows, columns)

    def standing_in(self, rows: tuple[int, ...]) -> "Matrix":
        """The rows (inputs) as a matrix that stands in for the whole; a few are remembered, as searches repeat them."""
        if rows not in self._refitted:
            if len(self._refitted) >= _KEPT:
                del self._refitted[next(iter(self._refitted))]
            values, bias = self.values[list(rows)], self.bias
            if self._inverse is not None:
                values, bias = compensated(self.values, self.bias, self._inverse, rows)
            spread = None if self._spread is None else self._spread[list(rows)]
            self._refitted[rows] = Matrix(values, bias, spread=spread)
        return self._refitted[rows]

    def columns(self) -> Columns:
        """The whole in int8, for smoothed inputs."""
        if self._columns is None:
            smoothed = self.values if self.smoothing is None else self.values * self.smoothing[:, None]
            self._columns = quantize.by_column(smoothed)
        return self._columns

    def blocks(self) -> Blocks:
        """The whole in 4 bits, as rows (N, K)."""
        if self._blocks is None:
            self._blocks = quantize.by_block(np.ascontiguousarray(self.values.T), 4)
        return self._blocks


class Cut:
    """A selection of a matrix's rows and columns in every width; values are computed when a tensor is asked for."""

    def __init__(self, matrix: Matrix, rows: Indices, columns: Indices) -> None:
        self._matrix = matrix
        self._rows = None if rows is None else tuple(rows)
        self._columns = slice(None) if columns is None else np.asarray(columns, dtype=np.intp)
        whole = matrix.shape
        self.inputs = whole[0] if rows is None else len(rows)
        self.outputs = whole[1] if columns is None else len(columns)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for cuts of equal values, as long as their matrix lives."""
        columns = self._columns
        return id(self._matrix), self._rows, None if isinstance(columns, slice) else tuple(columns.tolist())

    def split(self, outputs: int) -> tuple["Cut", "Cut"]:
        """The first `outputs` columns, and the others."""
        kept = np.arange(self._matrix.shape[1])[self._columns].tolist()
        return Cut(self._matrix, self._rows, kept[:outputs]), Cut(self._matrix, self._rows, kept[outputs:])

    def bias(self) -> Tensor:
        return Tensor(np.float32, (self.outputs,), lambda: self._whole.bias[self._columns])

    def full(self) -> Tensor:
        """(K, N) in fp32."""
        return Tensor(np.float32, (self.inputs, self.outputs), lambda: self._whole.values[:, self._columns])

    def smoothing(self) -> Tensor | None:
        """What inputs are multiplied by before 8 bits round them, (K,); None: nothing."""
        if self._matrix.smoothing is None:
            return None

        def values() -> Floats:
            smoothing = self._whole.smoothing
            assert smoothing is not None, "rows are smoothed as the whole is"
            return np.reciprocal(smoothing)

        return Tensor(np.float32, (self.inputs,), values)

    def eight(self) -> tuple[Tensor, Tensor]:
        """(K, N) in int8, and scales (N,)."""
        return (
            Tensor(np.int8, (self.inputs, self.outputs), lambda: self._whole.columns().values[:, self._columns]),
            Tensor(np.float32, (self.outputs,), lambda: self._whole.columns().scales[self._columns]),
        )

    def four(self) -> tuple[Tensor, Tensor, int]:
        """Packed codes (N, blocks, bytes), scales (N, blocks), and the block size."""
        block = quantize.block_size(self.inputs)
        blocks = -(-self.inputs // block)
        return (
            Tensor(np.uint8, (self.outputs, blocks, block // 2), lambda: self._whole.blocks().codes[self._columns]),
            Tensor(np.float32, (self.outputs, blocks), lambda: self._whole.blocks().scales[self._columns]),
            block,
        )

    @property
    def _whole(self) -> Matrix:
        """The matrix with this cut's rows and every column."""
        return self._matrix if self._rows is None else self._matrix.standing_in(self._rows)


class Table:
    """An embedding table (V, D) of the original, or some of its rows, in every width.

    Selections come from one rounding of the whole, which is exact because no scale spans two rows.
    """

    def __init__(self, rows: Floats) -> None:
        self._rows = rows
        self._rounded: dict[int, Blocks] = {}

    def full(self, rows: Indices = None) -> Tensor:
        """(V, D) in fp32."""
        count, kept = self._selection(rows)
        return Tensor(np.float32, (count, self._rows.shape[1]), lambda: self._rows[kept])

    def rounded(self, bits: int, rows: Indices = None) -> tuple[Tensor, Tensor, int]:
        """Codes (V, D * bits / 8) uint8, scales (V, blocks), and the block size; D is even."""
        count, kept = self._selection(rows)
        width = self._rows.shape[1]
        block = quantize.block_size(width)
        stored = width * bits // 8
        return (
            Tensor(np.uint8, (count, stored), lambda: self._blocks(bits).codes[kept].reshape(count, -1)[:, :stored]),
            Tensor(np.float32, (count, -(-width // block)), lambda: self._blocks(bits).scales[kept]),
            block,
        )

    def _selection(self, rows: Indices) -> tuple[int, slice | NDArray[np.intp]]:
        """How many rows stay, and which."""
        return (len(self._rows), slice(None)) if rows is None else (len(rows), np.asarray(rows, dtype=np.intp))

    def _blocks(self, bits: int) -> Blocks:
        if bits not in self._rounded:
            self._rounded[bits] = quantize.by_block(self._rows, bits)
        return self._rounded[bits]
