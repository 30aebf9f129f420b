"""Numbers in few bits, as onnxruntime's operators want them. Knows arrays; knows nothing of graphs or models."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

# Measured on MiniLM-L6 at 27 tokens: blocks of 128 run 30 % faster than blocks of 32 or 64 with fewer bytes for
# scales, and logits move as little as with 64.
LARGEST_BLOCK = 128
SMALLEST_BLOCK = 16  # of MatMulNBits and GatherBlockQuantized
# Share of the differences between inputs that moves into the weights. Predictions of a MiniLM for film reviews, all
# parts in 8 bits, moved by a divergence of 0.0061 without, and with 0.6 to 0.9 by 0.0033, 0.0018, 0.0010, 0.0014.
_SMOOTHED = 0.75


@dataclass(frozen=True)
class Columns:
    """A matrix (K, N) in int8, one scale per column: `values * scales`.

    Args:
        values: (K, N) int8 in [-127, 127].
        scales: (N,) float32.
    """

    values: NDArray[np.int8]
    scales: Floats


@dataclass(frozen=True)
class Blocks:
    """Rows (N, K) in `bits` bits, one scale per block of a row: `(code - 2 ** (bits - 1)) * scale`.

    Args:
        codes: (N, blocks, block * bits / 8) uint8; of two 4-bit codes in a byte, the first is the low half.
        scales: (N, blocks) float32.
    """

    codes: NDArray[np.uint8]
    scales: Floats


def by_column(matrix: Floats) -> Columns:
    """Round (K, N) to int8, symmetric, a scale per column, as `quantize_dynamic(per_channel=True)` does."""
    largest = np.abs(matrix).max(axis=0)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return Columns(np.rint(matrix / scales).astype(np.int8), scales)


def smoothing(spread: Floats, matrix: Floats) -> Floats:
    """By what each input of a matrix (K, N) is divided, and its row multiplied, before 8 bits round both: (K,).

    All inputs share one scale, and a few wide ones leave the others few steps of it; weights have a scale per column
    and can take most of that over (Xiao et al. 2023, SmoothQuant, arXiv 2211.10438; there with largest magnitudes
    and a share of 0.5). Powers of two, so that nothing but the rounding itself is inexact.

    Args:
        spread: (K,), root mean square of each input.
        matrix: (K, N).
    """
    largest = np.abs(matrix).max(axis=1)
    used = (spread > 0) & (largest > 0)
    powers = np.zeros_like(spread)
    powers[used] = _SMOOTHED * np.log2(spread[used]) - (1 - _SMOOTHED) * np.log2(largest[used])
    powers[used] -= np.median(powers[used]) if used.any() else 0
    return np.exp2(np.rint(powers))


def block_size(length: int) -> int:
    """Elements that share a scale in rows of `length`: a power of two, at most one block longer than the row."""
    return min(LARGEST_BLOCK, max(SMALLEST_BLOCK, 1 << (length - 1).bit_length()))


def by_block(rows: Floats, bits: int) -> Blocks:
    """Round (N, K) to `bits` bits, symmetric, block by block along K; the last block is padded with zeros.

    In 4 bits the element of largest magnitude becomes the code -8 (as in onnxruntime's MatMulNBitsQuantizer: the grid
    has one step more on that side), in 8 bits the grid is [-127, 127].
    """
    count, length = rows.shape
    block = block_size(length)
    blocks = -(-length // block)
    padded = rows if blocks * block == length else np.pad(rows, ((0, 0), (0, blocks * block - length)))
    grouped = padded.reshape(count, blocks, block)
    zero = 1 << (bits - 1)
    scales = _four_bit_scales(grouped) if bits == 4 else np.abs(grouped).max(axis=2) / np.float32(zero - 1)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    codes = np.clip(np.rint(grouped * inverse[:, :, None]) + zero, 0, 2 * zero - 1).astype(np.uint8)
    return Blocks(pack(codes) if bits == 4 else codes, scales)


def _four_bit_scales(grouped: Floats) -> Floats:
    high, low = grouped.max(axis=2), grouped.min(axis=2)
    extreme: Floats = np.where(high > -low, high, low)
    return extreme / np.float32(-8)


def pack(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two 4-bit codes per byte along the last axis (of even length), the first in the low half."""
    return codes[..., ::2] | np.left_shift(codes[..., 1::2], 4, dtype=np.uint8)


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `pack`."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def dequantized(blocks: Blocks, bits: int, length: int) -> Floats:
    """The rows (N, length) that the runtime computes with."""
    codes = unpack(blocks.codes) if bits == 4 else blocks.codes
    values = (codes.astype(np.float32) - (1 << (bits - 1))) * blocks.scales[:, :, None]
    return values.reshape(len(values), -1)[:, :length]
