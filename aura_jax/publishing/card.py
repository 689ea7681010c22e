"""The text of a model card: YAML for the hub, sizes, how to load the model, measured quality."""

from aura_jax.latent_stats import LatentStats
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.publishing.quality import Quality

EXACT = 1e-5  # relative error of a flip that rounding explains
HEADER = """\
---
library_name: aura-jax
tags:
- autoencoder
- vae
- equivariance
- jax
- flax
---

# AuraEquiVAE

An image autoencoder whose latents flip with the image, for [aura-jax](https://github.com/aura-jax/aura-jax).
Images of H × W become latents of H/{downsampling} × W/{downsampling} with {channels} channels.
"""
LOAD = """
## Loading

```python
import aura_jax

vae = aura_jax.AuraEquiVAE.from_pretrained("{name}")
z = aura_jax.encode(vae, images)  # [B, H, W, {images}] in [-1, 1]; deterministic, clamped to ±8
x = aura_jax.decode(vae, aura_jax.flip_latents(z, horizontal=True))
```
"""


def model_card(vae: AuraEquiVAE, quality: Quality | None, *, name: str) -> str:
    """Write the README.md of a model in Markdown.

    Args:
        vae: the model.
        quality: its measured quality; None if it was not measured.
        name: the folder or repository to load it from.
    """
    config = vae.config
    header = HEADER.format(downsampling=config.downsampling, channels=config.z_channels)
    load = LOAD.format(name=name, images=config.in_channels)
    sizes = f"\n## Sizes\n\n`{vae}`\n"
    return "".join((header, load, sizes, _quality(quality), _statistics(vae.latent_stats)))


def _quality(quality: Quality | None) -> str:
    if quality is None:
        return "\n## Measured quality\n\nNot measured.\n"
    flips = "".join(f"| {name} | {psnr:.1f} |\n" for name, psnr in quality.flips.items())
    side = f"{quality.size} × {quality.size}"
    return f"""
## Measured quality

On {quality.images}.
Images are centered squares of {side}, computed in float32. The PSNR of
decode(encode(x)) against x is {quality.psnr:.1f} dB, and its SSIM {quality.ssim:.3f}.

| flip g | decode(g·z) against g·decode(z), dB |
|---|---|
{flips}
{_verdict(quality)}
"""


def _verdict(quality: Quality) -> str:
    error = f"a relative error of {quality.flip_error:.1e}"
    if quality.flip_error <= EXACT:
        return f"The decoder's flips are exact up to rounding: {error} at most."
    return f"The decoder's flips are learned and not exact: {error} at most."


def _statistics(stats: LatentStats | None) -> str:
    if stats is None:
        return "\n## Latent statistics\n\nNone.\n"
    rows = enumerate(zip(stats.mean, stats.std, strict=True))
    table = "".join(f"| {i} | {mean:.4f} | {std:.4f} |\n" for i, (mean, std) in rows)
    return f"""
## Latent statistics

`vae.latent_stats`, with which `aura_jax.latents.normalize(z, vae)` computes (z - mean) / std.
Measured on: {stats.description}.

| channel | mean | standard deviation |
|---|---|---|
{table}"""
