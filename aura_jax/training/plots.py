"""Draw sample reconstructions and loss curves of a run."""

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aura_jax.images.grid import grid
from aura_jax.images.transforms import Pixels8, to_float, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.functional import decode, encode
from aura_jax.symmetry import FLIPS, flip_latents

SAMPLES = 4


def samples(title: str, vae: AuraEquiVAE, images: UInt8[np.ndarray, "b s s c"]) -> Pixels8:
    """Draw the first images of a batch, and reconstructions of them and of their flips."""
    images = images[:SAMPLES]
    z = encode(vae, to_float(images))
    columns = {"crop": images}
    for name, flip in FLIPS.items():
        flipped = flip_latents(z, **flip)
        label = "reconstruction" if name == "none" else f"{name} flip"
        columns[label] = to_uint8(np.asarray(decode(vae, flipped), np.float32))
    rows = [[(label, column[i]) for label, column in columns.items()] for i in range(len(images))]
    return grid(title, rows)


def loss_curve(metrics: list[dict[str, float | int]]) -> Pixels8:
    """Plot every recorded loss term and the PSNR over steps, with a running mean."""
    names = [name for name in metrics[-1] if name not in ("step", "size", "seconds")]
    figure = Figure(figsize=(10, 2 * len(names)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    steps = np.array([line["step"] for line in metrics])
    for axis, name in zip(axes, names, strict=True):
        values = np.array([line.get(name, np.nan) for line in metrics])
        axis.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=0.5)
        window = max(1, len(values) // 50)
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        axis.plot(steps[window - 1 :], mean, color="tab:blue")
        axis.set_ylabel("PSNR, dB" if name == "psnr" else name)
        if name != "psnr" and np.nanmin(values) > 0:
            axis.set_yscale("log")
    axes[-1].set_xlabel("step")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
