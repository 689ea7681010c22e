"""The layout of the page, and the events of its controls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from aura_jax.demo.actions import Actions
from aura_jax.demo.experiment import Checkpoint
from aura_jax.images.options import Decoding

DAY = 24 * 3600  # seconds
WAITING = 16  # events that may wait while one runs
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "codec"}
NOISE = "Multiplies each value by 1 + σ·n, with n ~ N(0, 1)."
INTRODUCTION = """
# Latents that flip with the image

An image *x* is encoded to a latent *z* with 16 channels and an eighth of the width and height. To
flip the latent, reverse an axis and negate two channels: then it decodes to the flipped image.
Without the signs it does not. PSNR compares decoded images with the flipped photograph.
"""


def build_page(checkpoints: Mapping[str, Checkpoint], size: int, decoding: Decoding) -> gr.Blocks:
    """Build the page.

    Args:
        checkpoints: the checkpoints to choose from, by name.
        size: the side in pixels to which the largest centered square of a photograph is scaled.
        decoding: how image files are decoded.
    """
    names = [*checkpoints]
    actions = Actions(checkpoints, size, decoding, Path(get_upload_folder()))
    title = "aura-jax: latents that flip with the image"
    with gr.Blocks(analytics_enabled=False, title=title, delete_cache=(DAY // 24, DAY)) as page:
        encoded = gr.State()
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = gr.File(label=f"Your photograph (center, {size} × {size})", height=150)
                bundled = gr.Button("Use the example photograph", size="md")
                weights = gr.Dropdown(names, value=names[0], label="Weights")
                horizontal = gr.Checkbox(label="Flip left to right")
                vertical = gr.Checkbox(label="Flip top to bottom")
                sigma = gr.Slider(0, 1, 0, step=0.05, label="Noise σ on the latent", info=NOISE)
                download = gr.DownloadButton("Download the latent", size="md")
            with gr.Column(scale=3):
                with gr.Row():
                    _, target = _picture("Photograph: g·x")
                    _, latent = _picture("Latent: g·z")
                with gr.Row():
                    signed = _picture("Decoded with signs")
                    naive = _picture("Decoded without signs")
        show: dict[str, Any] = {
            "fn": actions.show,
            "inputs": [encoded, horizontal, vertical, sigma],
            "outputs": [target, latent, *signed, *naive, download],
            **ONE_AT_A_TIME,
        }
        opened = upload.upload(actions.open, [weights, upload], encoded, **ONE_AT_A_TIME)
        for ended in (opened.success, opened.failure):
            ended(lambda: None, outputs=upload, queue=False)  # ready for another file
        for event in (
            opened,
            page.load(actions.open, weights, encoded, **ONE_AT_A_TIME),
            bundled.click(actions.open, weights, encoded, **ONE_AT_A_TIME),
            weights.input(actions.encode, [weights, encoded], encoded, **ONE_AT_A_TIME),
        ):
            event.success(**show)
        gr.on([horizontal.input, vertical.input, sigma.change], trigger_mode="always_last", **show)
    return page.queue(max_size=WAITING)


def _picture(caption: str) -> tuple[gr.Markdown, gr.Image]:
    """Make a caption above a picture of exact pixels: Gradio's default, WebP, is lossy."""
    with gr.Column(min_width=140):
        return gr.Markdown(caption), gr.Image(
            format="png",
            height="min(256px, 44vw)",
            show_label=False,
            alt_text=caption,
            interactive=False,
            buttons=["fullscreen"],
        )
