"""Checkpoints named by a hub id, fetched from a server on loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import aura_jax
from aura_jax import CheckpointError
from tests.conftest import GOLDEN_CONFIG
from tests.hub_server import CONTENT, Hub

PUBLISHED = "fal/AuraEquiVAE"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    use(monkeypatch, server.address, tmp_path)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Set the client's endpoint and cache, which it reads from the environment on import."""
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.mark.parametrize("name", [PUBLISHED, "someone/copy", "someone/many/b.safetensors"])
def test_a_hub_id_is_fetched_once(hub: Hub, name: str):
    assert aura_jax.load(name).config == GOLDEN_CONFIG
    assert aura_jax.load(name).config == GOLDEN_CONFIG
    assert hub.downloads == [0]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "someone/many",
            r"holds a\.safetensors, b\.safetensors; name one file as someone/many/FILE",
        ),
        ("someone/else", r"someone/else: no such file, and it cannot be downloaded .*Not Found"),
        ("someone/copy/c.safetensors", r"someone/copy/c\.safetensors: no such file, .*Not Found"),
        ("some--one/..", r"some--one/\.\.: no such file, and it cannot be downloaded"),
    ],
)
def test_files_missing_on_the_hub(name: str, message: str):
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        aura_jax.load(name)


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    use(monkeypatch, "http://127.0.0.1:9", tmp_path)  # nothing listens on the discard port
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's waits between tries
    with pytest.raises(CheckpointError, match=r"fal/AuraEquiVAE: .*check your connection"):
        aura_jax.load(PUBLISHED)


def test_a_broken_download_resumes_where_it_broke(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.halves = 1
    assert aura_jax.load(PUBLISHED).config == GOLDEN_CONFIG
    first, second = hub.downloads
    assert first == 0
    assert len(CONTENT) // 2 - 2**16 <= second <= len(CONTENT) // 2


def test_an_interrupted_download_leaves_no_file_under_the_final_name(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    hub.halves = 1
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", interrupt)  # while the client waits to try again
        with pytest.raises(KeyboardInterrupt):
            aura_jax.load(PUBLISHED)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".incomplete")]
    assert aura_jax.load(PUBLISHED).config == GOLDEN_CONFIG
