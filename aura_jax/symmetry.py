"""The flips of images and latents: two actions of one group, Z2 × Z2.

On images a flip reverses an axis. On latents it reverses the same axis and negates two channels:
channels -4 and -3 for the horizontal flip, -2 and -1 for the vertical one. The model is trained so
that decode(flip_latents(z)) ≈ flip_images(decode(z)).

Numpy arrays stay numpy arrays, and JAX is imported only if an argument is a jax array.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from aura_jax.arrays import AnyArray
from aura_jax.config import FLIPPED_CHANNELS
from aura_jax.errors import ArrayError

if TYPE_CHECKING:
    from jaxtyping import Array, Bool

HORIZONTAL_AXIS, HORIZONTAL_SIGNS = -2, slice(-4, -2)
VERTICAL_AXIS, VERTICAL_SIGNS = -3, slice(-2, None)

type Flag = bool | np.bool_ | AnyArray


class Flip(TypedDict):
    """One flip, as the keywords of `flip_images` and `flip_latents`."""

    horizontal: bool
    vertical: bool


FLIPS: dict[str, Flip] = {
    "none": {"horizontal": False, "vertical": False},
    "h": {"horizontal": True, "vertical": False},
    "v": {"horizontal": False, "vertical": True},
    "hv": {"horizontal": True, "vertical": True},
}


class Flips(NamedTuple):
    """The samples of a batch to flip: two boolean arrays [B]."""

    horizontal: "Bool[Array, ' b']"
    vertical: "Bool[Array, ' b']"


def flip_images[T: AnyArray](x: T, *, horizontal: Flag = False, vertical: Flag = False) -> T:
    """Mirror images left to right and top to bottom.

    Args:
        x: [..., H, W, C], a jax or numpy array of any dtype; numpy gives numpy.
        horizontal: whether to reverse W: a bool, or an array of booleans (which may be traced)
            whose shape is that of the leading axes of `x`, such as [B] for a batch.
        vertical: whether to reverse H, in the same form.

    Raises:
        ArrayError: if `x` has fewer than three axes, or a flag has the wrong dtype or shape.
    """
    x = _flip(x, horizontal, HORIZONTAL_AXIS, None)
    return _flip(x, vertical, VERTICAL_AXIS, None)


def flip_latents[T: AnyArray](z: T, *, horizontal: Flag = False, vertical: Flag = False) -> T:
    """Flip latents as `flip_images` flips images: reverse an axis and negate two channels.

    Args:
        z: [..., h, w, C] with C ≥ 4, a jax or numpy array; numpy gives numpy.
        horizontal: whether to reverse w and negate channels -4 and -3; see `flip_images`.
        vertical: whether to reverse h and negate channels -2 and -1.

    Raises:
        ArrayError: as `flip_images`, and if there are fewer than four channels.
    """
    if z.ndim >= 1 and z.shape[-1] < FLIPPED_CHANNELS:
        raise ArrayError(
            f"latents of shape {z.shape}: expected at least 4 channels on the last axis"
        )
    z = _flip(z, horizontal, HORIZONTAL_AXIS, HORIZONTAL_SIGNS)
    return _flip(z, vertical, VERTICAL_AXIS, VERTICAL_SIGNS)


def random_flips(
    key: "Array", batch_size: int, *, p_horizontal: float = 0.5, p_vertical: float = 0.5
) -> Flips:
    """Draw independent flips per sample, for `flip_latents` and `flip_images` together.

    Args:
        key: a jax.random key.
        batch_size: the number of samples, B.
        p_horizontal: probability of a horizontal flip.
        p_vertical: probability of a vertical flip.

    Returns:
        Flips(horizontal, vertical), boolean arrays [B].
    """
    import jax
    import jax.numpy as jnp

    horizontal, vertical = jax.random.split(key)
    return Flips(
        jax.random.bernoulli(horizontal, jnp.asarray(p_horizontal, jnp.float32), (batch_size,)),
        jax.random.bernoulli(vertical, jnp.asarray(p_vertical, jnp.float32), (batch_size,)),
    )


def _flip(x: Any, flag: Flag, axis: int, negated: slice | None) -> Any:
    if x.ndim < 3:
        raise ArrayError(f"array of shape {x.shape}: expected [..., height, width, channels]")
    if isinstance(flag, bool | np.bool_):
        return _mirror(x, axis, negated) if flag else x
    _check_flag(flag, x)
    per_sample = flag.reshape(flag.shape + (1,) * (x.ndim - flag.ndim))
    if isinstance(x, np.ndarray) and not _is_traced(flag):
        return np.where(np.asarray(per_sample), _mirror(x, axis, negated), x)
    return _jnp().where(per_sample, _mirror(x, axis, negated), x)


def _mirror(x: Any, axis: int, negated: slice | None) -> Any:
    numpy = np if isinstance(x, np.ndarray) else _jnp()
    # Copied, since numpy's flip is a strided view and safetensors 0.8 writes raw memory.
    x = numpy.flip(x, axis).copy()
    if negated is None:
        return x
    kept = np.ones((1,) * (x.ndim - 1) + x.shape[-1:], bool)
    kept[..., negated] = False
    return numpy.where(kept, x, -x)


def _check_flag(flag: AnyArray, x: AnyArray) -> None:
    if getattr(flag, "dtype", None) != np.bool_:
        raise ArrayError(f"flip flag {flag!r}: expected a bool or an array of booleans")
    if flag.ndim > x.ndim - 3 or flag.shape != x.shape[: flag.ndim]:
        raise ArrayError(f"flip flags of shape {flag.shape} do not fit an array of shape {x.shape}")


def _is_traced(flag: AnyArray) -> bool:
    if isinstance(flag, np.ndarray):
        return False
    from jax.core import Tracer

    return isinstance(flag, Tracer)


def _jnp() -> Any:
    import jax.numpy

    return jax.numpy
