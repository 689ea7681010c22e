"""AuraEquiVAE in PyTorch, written independently: the twin that the port is compared with.

Layouts are NCHW and OIHW throughout. Parameters have the published checkpoint's names.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own spelling
from torch import Tensor, nn

from aura_jax import AuraConfig

NORM_GROUPS = 32
NORM_EPSILON = 1e-6
HEAD_DIM = 64
LATENT_LIMIT = 8.0


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a GroupNorm of 32 groups, with the two-pass variance of PyTorch."""
    return nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPSILON)


def conv3x3(cin: int, cout: int) -> nn.Conv2d:
    """Make a 3×3 convolution that keeps the size."""
    return nn.Conv2d(cin, cout, 3, padding=1)


class ResnetBlock(nn.Module):
    """x + conv2(swish(norm2(conv1(swish(norm1(x)))))), x through a 1×1 conv if widths differ."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.norm1 = group_norm(cin)
        self.conv1 = conv3x3(cin, cout)
        self.norm2 = group_norm(cout)
        self.conv2 = conv3x3(cout, cout)
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, cin, H, W] to [B, cout, H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """x + proj_out(attention(qkv(norm(x)))), in heads of 64 channels over all pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.proj_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, c // HEAD_DIM, HEAD_DIM, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(out.transpose(-1, -2).reshape(b, c, h, w))


class Downsample(nn.Module):
    """A 3×3 convolution of stride 2 over the image padded right and bottom."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H // 2, W // 2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbor, then a 3×3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, 2H, 2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks, followed by `downsample` or `upsample`, if any."""

    def __init__(self, cin: int, cout: int, num_blocks: int, **resample: nn.Module):
        super().__init__()
        widths = (cin, *[cout] * num_blocks)
        self.block = nn.ModuleList(ResnetBlock(a, b) for a, b in pairwise(widths))
        for name, module in resample.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, cin, H, W] to [B, cout, H', W']."""
        for block in self.block:
            x = block(x)
        for name in ("downsample", "upsample"):
            x = getattr(self, name, nn.Identity())(x)
        return x


class Middle(nn.Sequential):
    """block_1, attn_1, block_2 at the latent's resolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)


class Encoder(nn.Module):
    """The map from images [B, C, H, W] in [-1, 1] to unclamped latents [B, Z, H/8, W/8]."""

    def __init__(self, config: AuraConfig):
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = conv3x3(config.in_channels, config.ch)
        self.down = nn.ModuleList()
        for i, (cin, cout) in enumerate(pairwise((config.ch, *widths))):
            resample = {} if i == last else {"downsample": Downsample(cout)}
            self.down.append(Level(cin, cout, config.num_res_blocks, **resample))
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = conv3x3(widths[-1], config.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the latent, without clamping it."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """The map from latents [B, Z, h, w] to images [B, C, 8h, 8w]; `up` runs backward."""

    def __init__(self, config: AuraConfig):
        super().__init__()
        widths = config.widths
        self.conv_in = conv3x3(config.z_channels, widths[-1])
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()
        for i, (cout, cin) in enumerate(pairwise((*widths, widths[-1]))):
            resample = {} if i == 0 else {"upsample": Upsample(cout)}
            self.up.append(Level(cin, cout, config.num_res_blocks + 1, **resample))
        self.norm_out = group_norm(widths[0])
        self.conv_out = conv3x3(widths[0], config.out_channels)

    def forward(self, z: Tensor) -> Tensor:
        """Compute the image, about in [-1, 1], without clamping it."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class TorchAuraEquiVAE(nn.Module):
    """The `encoder` and `decoder` in one module, so that it has the published state dict."""

    def __init__(self, config: AuraConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] to latents, clamped to ±8."""
        return self.encoder(images).clamp(-LATENT_LIMIT, LATENT_LIMIT)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images [B, 3, 8h, 8w], not clamped."""
        return self.decoder(latents)


def outputs_of(network: Encoder | Decoder, x: Tensor) -> dict[str, Tensor]:
    """Run a network once, and return the output of every stage by name, in order of execution.

    Stages are the convolutions at both ends, the residual and attention blocks, and the resamplers.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    stages: dict[str, nn.Module] = {"conv_in": network.conv_in, "conv_out": network.conv_out}
    for name, module in network.named_modules():
        if isinstance(module, ResnetBlock | AttnBlock | Downsample | Upsample):
            stages[name] = module
    hooks = [module.register_forward_hook(keep(name)) for name, module in stages.items()]
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    return outputs
