"""Serve a page on this machine's loopback address, and nowhere else."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio.themes import Default

from aura_jax.errors import AuraError

HOST = "127.0.0.1"
MAX_BYTES = 100 * 2**20  # of an upload
FONTS = ("system-ui", "sans-serif")  # Gradio 6.31's own font lacks most bold letters
PATIENCE = 1  # seconds that open connections get at the end


def listen(port: int) -> socket.socket:
    """Reserve a port, before the work that a busy port would make useless.

    Args:
        port: the port; 0 takes any free one.

    Raises:
        AuraError: if the port is in use, or this user may not use it.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # the error's own text also has the address
        raise AuraError(
            f"port {port}: cannot be used ({reason}); give another with --port"
        ) from None


@contextmanager
def serving(build: Callable[[], gr.Blocks], listener: socket.socket) -> Iterator[str]:
    """Serve a page in the block, from another thread, and yield its address.

    Gradio's own `launch` is not used: it prints, and asks whether a network is there.

    Args:
        build: a function that builds the page, which is called in the event loop that serves it:
            Gradio 6.31 opens loops of its own and never closes them where none is running.
        listener: the result of `listen`, which is closed at the end.
    """
    config = uvicorn.Config(
        lambda: _mounted(build()),
        factory=True,
        log_config=None,
        log_level="critical",  # uvicorn 0.54 logs a traceback for each page that is still open
        timeout_graceful_shutdown=PATIENCE,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    host, port = listener.getsockname()
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        assert server.started, "the thread's traceback says why"
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _mounted(page: gr.Blocks) -> FastAPI:
    return gr.mount_gradio_app(
        FastAPI(),
        page,
        "/",
        footer_links=[],
        run_history=False,
        max_file_size=MAX_BYTES,
        theme=Default(font=FONTS),
    )
