"""3×3 convolutions in a quarter of the multiplications: Winograd's F(4×4, 3×3).

    y = Aᵀ [ (G k Gᵀ) ⊙ (Bᵀ x B) ] A

Here x is a window of 6 × 6 pixels, y its 4 × 4 results, and k the kernel. The matrices are those of
Lavin & Gray 2016, https://arxiv.org/abs/1509.09308. The product ⊙ is a matrix product over channels
for each of the 36 positions in a window. Its terms are larger than the results, which costs a
digit: errors are up to 8e-6 instead of 1.4e-6.
"""

import operator
from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

TILE, WINDOW = 4, 6
WINDOW_TRANSFORM = np.array(  # Bᵀ
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
KERNEL_TRANSFORM = np.array(  # G
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,
)
TILE_TRANSFORM = np.array(  # Aᵀ
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float64,
)

# Without barriers XLA's CPU compiler (jax 0.12) recomputes the sums over one axis for each term of
# the sums over the other axis.
_computed = jax.lax.optimization_barrier


class WinogradConv(nnx.Module):
    """`conv3x3` in float32, with kernels that are transformed once and take 4 times the memory.

    Args:
        conv: a 3 × 3 convolution of stride 1 with one pixel of zeros around the image.
    """

    def __init__(self, conv: nnx.Conv):
        g = KERNEL_TRANSFORM.astype(np.float32)
        kernel = conv.kernel[...].astype(jnp.float32)
        with jax.default_matmul_precision("highest"):
            transformed = jnp.einsum("ia,jb,abco->ijco", g, g, kernel)
        # Separate arrays, since a slice of one array would be copied before each product. Taken one
        # by one: iterating over the array would compile a program of 36 outputs (jax 0.12).
        places = np.ndindex(WINDOW, WINDOW)
        self.kernels = nnx.List([nnx.Param(transformed[place]) for place in places])
        self.bias = conv.bias

    def __call__(self, x: Float[Array, "b h w cin"]) -> Float[Array, "b h w cout"]:
        """Convolve an image whose sides may have any length, not only multiples of 4."""
        b, h, w, c = x.shape
        rows, columns = -(-h // TILE), -(-w // TILE)
        windows = _windows(x, rows, columns)
        products = [
            jnp.dot(window.reshape(-1, c), kernel[...]).reshape(b, rows, columns, -1)
            for window, kernel in zip(windows, self.kernels, strict=True)
        ]
        y = _tiles(products)[:, :h, :w]
        return y if self.bias is None else y + self.bias[...][None, None, None]


def _windows(
    x: Float[Array, "b h w c"], rows: int, columns: int
) -> Sequence[Float[Array, "b th tw c"]]:
    """Compute Bᵀ x B of every window: one array for each of its 36 positions."""
    _, h, w, _ = x.shape
    bottom, right = TILE * rows - h + 1, TILE * columns - w + 1
    padded = jnp.pad(x, ((0, 0), (1, bottom), (1, right), (0, 0)))
    lines = _computed(_combined(WINDOW_TRANSFORM, _every_fourth(padded, rows, axis=1)))
    return _computed(
        [
            place
            for line in lines
            for place in _combined(WINDOW_TRANSFORM, _every_fourth(line, columns, axis=2))
        ]
    )


def _every_fourth(x: Array, count: int, axis: int) -> list[Array]:
    """Slice every fourth row or column, once for each of the six positions in a window."""
    last = TILE * (count - 1) + 1
    return [jax.lax.slice_in_dim(x, i, i + last, TILE, axis) for i in range(WINDOW)]


def _tiles(products: Sequence[Float[Array, "b th tw c"]]) -> Float[Array, "b 4*th 4*tw c"]:
    """Compute Aᵀ m A of every tile and join the tiles to one image."""
    columns = _computed(
        [_combined(TILE_TRANSFORM, products[j::WINDOW]) for j in range(WINDOW)]
    )  # [place across][line of the tile]
    lines = [_combined(TILE_TRANSFORM, [column[i] for column in columns]) for i in range(TILE)]
    return interleaved(_computed(lines))


def interleaved(parts: Sequence[Sequence[Float[Array, "b h w c"]]]) -> Float[Array, "b h2 w2 c"]:
    """Join parts to one image: parts[i][j] holds its pixels (i, j), (i, j + n), (i + n, j), …."""
    b, h, w, c = parts[0][0].shape
    lines = [jnp.stack(line, axis=3).reshape(b, h, w * len(line), c) for line in parts]
    return jnp.stack(lines, axis=2).reshape(b, h * len(lines), -1, c)


def _combined(matrix: Float[np.ndarray, "i j"], terms: Sequence[Array]) -> list[Array]:
    """Multiply a matrix by a vector of arrays, omitting terms whose factor is zero."""
    return [
        reduce(operator.add, [float(a) * term for a, term in zip(row, terms, strict=True) if a])
        for row in matrix
    ]
