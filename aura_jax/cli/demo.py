"""The command aura-jax demo: a page to try checkpoints on one's own photographs."""

import os
import time
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from aura_jax.cli.interruption import interruption
from aura_jax.cli.options import ANY_SQUARE, DEFAULT_WEIGHTS, ComputeDtype, MaxPixels
from aura_jax.cli.start import importing
from aura_jax.console import say
from aura_jax.extras import needs
from aura_jax.images.options import MAX_PIXELS, Decoding


def demo(
    weights: Annotated[
        list[str],
        typer.Option(
            help="The checkpoint: small (comes with the package), a file or folder, or a Hugging "
            "Face id such as fal/AuraEquiVAE. Give it several times to choose between checkpoints "
            "on the page."
        ),
    ] = [DEFAULT_WEIGHTS],  # noqa: B006  Typer copies it
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to serve on; 0 takes any free one.")
    ] = 7860,
    size: Annotated[int, typer.Option(min=8, help=ANY_SQUARE)] = 256,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the default browser.")
    ] = False,
    equivariant: Annotated[
        bool,
        typer.Option(
            "--equivariant",
            help="Offer each checkpoint averaged over the flips too, which takes four times as "
            "long.",
        ),
    ] = False,
    compute_dtype: ComputeDtype = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Serve a page that flips the latents of your photographs, on this machine alone.

    The page shows the photograph, its latent, and the images decoded from the
    latent that was flipped with and without signs. It needs no network.
    Ctrl-C stops the server, which is its normal end: the exit status is 0.
    """
    with importing(), needs("web"):
        from aura_jax.demo.server import listen, serving
    with listen(port) as listener:
        with importing():
            from aura_jax.demo.experiment import load_checkpoint
            from aura_jax.demo.page import build_page
        checkpoints = {name: load_checkpoint(name, compute_dtype) for name in weights}
        if equivariant:
            checkpoints |= {
                f"{name}, equivariant": load_checkpoint(name, compute_dtype, averaged=True)
                for name in weights
            }
        page = partial(build_page, checkpoints, size, Decoding(max_pixels))
        _serve(partial(serving, page, listener), open_browser)
    say("stopped")


def _serve(serving: Callable[[], AbstractContextManager[str]], open_browser: bool) -> None:
    """Serve until a signal, with a folder for uploads that goes with the command."""
    with interruption() as stop:
        stop.defer()  # before there is a folder to remove
        with TemporaryDirectory(prefix="aura-jax-demo-") as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder
            with serving() as address:
                say(f"serving on {address}; Ctrl-C stops it")
                if open_browser:
                    webbrowser.open(address)
                while not stop.received:
                    time.sleep(0.1)
