"""The blocks of the autoencoder, in NHWC. Attribute names are the PyTorch reference's."""

from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Float32

from aura_jax.config import HEAD_DIM, NORM_GROUPS

NORM_EPSILON = 1e-6
LOGITS_BYTES = 2**29  # larger attention logits are computed in chunks of queries


type Mask = Bool[Array, "b h w #c"]


@runtime_checkable
class Attention(Protocol):
    """Attention between queries, keys and values [b, t, n, d]."""

    def __call__(
        self, q: Array, k: Array, v: Array, *, valid: Bool[Array, "b s"] | None = None
    ) -> Array:
        """Compute it; keys that are not valid are left out of every softmax."""
        ...


class LayerOptions(TypedDict):
    """Arguments that every layer takes: compute dtype, parameter dtype, keys for initialization."""

    dtype: DTypeLike
    param_dtype: DTypeLike
    rngs: nnx.Rngs


class Conv(nnx.Conv):
    """`nnx.Conv` that rounds once, after it has added its bias, as PyTorch does.

    XLA:CPU (of jax 0.12) would also round sums in bfloat16 before it adds the bias. The errors of
    trained models would then be 1.2 times PyTorch's, instead of 1.03. On a GPU cuDNN adds the bias
    before it rounds.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, conv_general_dilated=_convolve, **options)

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        return super().__call__(inputs, out_sharding).astype(self.dtype or inputs.dtype)


def _convolve(*args: Any, **options: Any) -> Array:
    """Convolve, and on a CPU keep the sums in float32.

    The choice is made when JAX traces, by the platform it runs on. `aura_jax.export` makes it
    for each of its platforms instead.
    """
    on_cpu = jax.default_backend() == "cpu"
    return (convolve_in_float32 if on_cpu else jax.lax.conv_general_dilated)(*args, **options)


def convolve_in_float32(*args: Any, **options: Any) -> Array:
    """Convolve, and return the sums in float32, whatever the dtype of the arguments."""
    return jax.lax.conv_general_dilated(*args, preferred_element_type=jnp.float32, **options)


def conv3x3(cin: int, cout: int, **options: Unpack[LayerOptions]) -> nnx.Conv:
    """Make a 3×3 convolution of stride 1 that keeps the size: one zero pixel on every side."""
    return Conv(cin, cout, (3, 3), padding=((1, 1), (1, 1)), **options)


def conv1x1(cin: int, cout: int, *, use_bias: bool, **options: Unpack[LayerOptions]) -> nnx.Conv:
    """Make a 1×1 convolution: a linear map of each pixel's channels."""
    return Conv(cin, cout, (1, 1), use_bias=use_bias, **options)


class GroupNorm(nnx.Module):
    """Normalization over pixels and the channels of each of 32 groups, then scale and bias.

    It takes any floating-point dtype and returns float32, so that the activation is exact and the
    next convolution's cast is the only rounding. The variance is mean((x - mean)²), since
    E[x²] - E[x]² loses digits that parity needs.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
        del dtype  # statistics need float32 whatever convolutions compute in
        self.scale = nnx.Param(nnx.initializers.ones(rngs.params(), (channels,), param_dtype))
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (channels,), param_dtype))

    def __call__(
        self, x: Float[Array, "b h w c"], where: Mask | None = None
    ) -> Float32[Array, "b h w c"]:
        scale, bias = (
            p[...].astype(jnp.float32)[None, None, None] for p in (self.scale, self.bias)
        )
        centered = x.astype(jnp.float32)
        centered -= group_mean(centered, where)
        gain = scale * jax.lax.rsqrt(group_mean(jnp.square(centered), where) + NORM_EPSILON)
        return centered * gain + bias


def group_mean(x: Float[Array, "b h w c"], where: Mask | None = None) -> Float[Array, "b 1 1 c"]:
    """Average over the pixels and channels of each group, and repeat the mean for its channels.

    Pixels are summed per channel first: the large array is never reshaped.

    Args:
        x: activations.
        where: the pixels to average over; None for all.
    """
    groups = x.mean(axis=(1, 2), where=where).reshape(x.shape[0], NORM_GROUPS, -1)
    means = jnp.broadcast_to(groups.mean(axis=-1, keepdims=True), groups.shape)
    return means.reshape(x.shape[0], 1, 1, x.shape[3])


class ResnetBlock(nnx.Module):
    """x + conv2(swish(norm2(conv1(swish(norm1(x)))))), with a 1×1 conv on x if widths differ."""

    def __init__(self, cin: int, cout: int, **options: Unpack[LayerOptions]):
        self.norm1 = GroupNorm(cin, **options)
        self.conv1 = conv3x3(cin, cout, **options)
        self.norm2 = GroupNorm(cout, **options)
        self.conv2 = conv3x3(cout, cout, **options)
        self.nin_shortcut = conv1x1(cin, cout, use_bias=True, **options) if cin != cout else None

    def __call__(self, x: Float[Array, "b h w cin"]) -> Float[Array, "b h w cout"]:
        h = self.conv1(nnx.swish(self.norm1(x)))
        h = self.conv2(nnx.swish(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class AttnBlock(nnx.Module):
    """x + proj_out(attention(qkv(norm(x)))) over all pixels, in heads of 64 channels."""

    def __init__(self, channels: int, **options: Unpack[LayerOptions]):
        self.norm = GroupNorm(channels, **options)
        self.qkv = conv1x1(channels, 3 * channels, use_bias=False, **options)
        self.proj_out = conv1x1(channels, channels, use_bias=False, **options)
        self.attention: Attention = attention  # the runtime may replace it with a faster kernel

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, h * w, 3, c // HEAD_DIM, HEAD_DIM)
        out = self.attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return x + self.proj_out(out.reshape(b, h, w, c))


def plain_attention(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Compute softmax(q kᵀ / sqrt(d)) v per head, holding all logits at once.

    float16 is computed in float32, since only GPUs compile JAX's float16 attention.
    """
    wide = jnp.float32 if q.dtype == jnp.float16 else q.dtype
    mask = None if valid is None else valid[:, None, None]
    out = jax.nn.dot_product_attention(*(x.astype(wide) for x in (q, k, v)), mask=mask)
    return out.astype(q.dtype)


def attention(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
    attend: Attention = plain_attention,
) -> Float[Array, "b t n d"]:
    """Compute softmax(q kᵀ / sqrt(d)) v per head, in memory that grows with tokens, not tokens².

    Queries are independent of each other, so computing them in chunks gives the same numbers. A
    batch of symbolic size, as in `jax.export`, is computed image by image.

    Args:
        q: queries.
        k: keys.
        v: values.
        valid: the keys that take part; None for all.
        attend: plain attention, which computes each chunk.
    """
    b, tokens, heads, _ = q.shape
    if jax.export.is_symbolic_dim(b):
        return jax.lax.map(
            lambda x: attention(*x, attend=attend)[0], [y[:, None] for y in (q, k, v)]
        )
    chunk = LOGITS_BYTES // (4 * b * heads * k.shape[1])  # the logits are float32
    if chunk >= tokens:
        return attend(q, k, v, valid=valid)

    def attend_once(query: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return attend(query[:, None], k, v, valid=valid)[:, 0]

    queries = jnp.moveaxis(q, 1, 0)
    return jnp.moveaxis(jax.lax.map(attend_once, queries, batch_size=max(chunk, 1)), 0, 1)


class Downsample(nnx.Module):
    """A 3×3 convolution of stride 2, which turns n pixels into floor(n / 2)."""

    def __init__(self, channels: int, **options: Unpack[LayerOptions]):
        # Zeros to the right and below only: symmetric padding has the same shape but wrong pixels.
        padding = ((0, 1), (0, 1))
        self.conv = Conv(channels, channels, (3, 3), strides=2, padding=padding, **options)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest-neighbor upsampling to twice the size, followed by a 3×3 convolution."""

    def __init__(self, channels: int, **options: Unpack[LayerOptions]):
        self.conv = conv3x3(channels, channels, **options)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        return self.conv(x.repeat(2, axis=1).repeat(2, axis=2))
