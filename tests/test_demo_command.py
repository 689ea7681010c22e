"""The command `aura-jax demo`: its port, its end, its refusals and its network."""

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from aura_jax import AuraError, CheckpointError
from tests.corner_photo import WEIGHTS, command

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files in a folder that can be looked at."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # restored after the command has set it
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_busy_port_is_named(temporary: Path):
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
        message = (
            rf"^port {port}: cannot be used \(Address already in use\); give another with --port$"
        )
        with pytest.raises(AuraError, match=message):
            command("demo", "--port", str(port), "--weights", "no such checkpoint")
    assert list(temporary.iterdir()) == []


def test_a_missing_checkpoint_is_named_before_the_page_opens(temporary: Path):
    with pytest.raises(CheckpointError, match=r"missing\.safetensors: no such file"):
        command("demo", "--port", "0", "--weights", "missing.safetensors")
    assert list(temporary.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith(("aura_jax.demo", "gradio"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(AuraError, match=r'gradio is not installed: pip install "aura-jax\[web\]"'):
        command("demo")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_server_and_removes_its_files(
    number: signal.Signals, temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    """Meanwhile it connects to nothing but this machine."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    places, kept = [], []
    connect = socket.socket.connect

    def recorded(self: socket.socket, place: Any) -> None:
        places.append(place)
        connect(self, place)

    def visit() -> None:
        url, files = f"http://{HOST}:{port}", {"files": ("mine.png", b"pixels")}
        for _ in range(600):
            try:
                assert "aura-jax" in httpx.get(url).text
                break
            except httpx.TransportError:
                time.sleep(0.05)
        httpx.post(f"{url}/gradio_api/upload", files=files).raise_for_status()
        kept.extend(temporary.rglob("mine.png"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr(socket.socket, "connect", recorded)
    visitor = threading.Thread(target=visit)
    visitor.start()
    printed = command("demo", "--port", str(port), *WEIGHTS)
    visitor.join()
    assert printed == f"serving on http://{HOST}:{port}; Ctrl-C stops it\nstopped\n"
    assert len(kept) == 1
    assert list(temporary.iterdir()) == []
    assert {place[0] for place in places} == {HOST}
