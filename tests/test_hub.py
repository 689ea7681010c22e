"""Checkpoints named by a hub id, fetched from a server on loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import aura_jax
from aura_jax import CheckpointError
from aura_jax.model.parameters import fingerprint
from tests.conftest import GOLDEN_CONFIG, GOLDEN_WEIGHTS
from tests.hub_server import CONTENT, REPOS, STATS, Hub

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


def test_revisions_tokens_and_folders(hub: Hub, tmp_path: Path):
    commit, folder = "1" * 40, tmp_path / "elsewhere"
    aura_jax.load("someone/copy", revision=commit, cache_dir=folder, token="hf_secret")
    assert hub.revisions == [commit]
    assert hub.tokens == ["Bearer hf_secret"]
    assert [path.name for path in folder.glob("models--*")] == ["models--someone--copy"]
    with pytest.raises(CheckpointError, match=r"is on this machine and has no revision 'main'"):
        aura_jax.load(GOLDEN_WEIGHTS, revision="main")


def test_shards_are_fetched(hub: Hub, tmp_path: Path):
    for name in ("someone/shards", f"someone/shards/{REPOS['someone/shards'][0]}"):
        vae = aura_jax.load(name)
        assert fingerprint(vae) == fingerprint(aura_jax.load(GOLDEN_WEIGHTS))
    assert hub.downloads == [0, 0, 0]


@pytest.mark.parametrize("how", ["offline", "unreachable"])
@pytest.mark.parametrize("name", [PUBLISHED, "someone/copy", "someone/shards"])
def test_without_a_network_the_cache_is_used(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, how: str
):
    aura_jax.load(name)
    disconnect(monkeypatch, tmp_path, how)
    assert aura_jax.load(name).config == GOLDEN_CONFIG
    assert len(hub.revisions) == 1
    with pytest.raises(CheckpointError, match=r"copy/c\.safetensors: no such file, and it"):
        aura_jax.load("someone/copy/c.safetensors")


@pytest.mark.parametrize("how", ["offline", "unreachable"])
@pytest.mark.parametrize("name", [PUBLISHED, "some/thing", "some/thing/a.safetensors"])
def test_without_a_network_an_unknown_name_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, how: str
):
    disconnect(monkeypatch, tmp_path, how)
    with pytest.raises(CheckpointError, match=f"{name}: .*check your connection") as error:
        aura_jax.load(name)
    assert len(str(error.value).splitlines()) == 1


def disconnect(monkeypatch: pytest.MonkeyPatch, cache: Path, how: str) -> None:
    """Turn the network off, and let the client's waits between tries fail."""
    use(monkeypatch, "http://127.0.0.1:9", cache)  # nothing listens on the discard port
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))


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


def test_the_config_beside_a_checkpoint_is_fetched(hub: Hub):
    vae = aura_jax.load("someone/config")
    assert (vae.config, vae.latent_stats) == (GOLDEN_CONFIG, STATS)
    assert hub.downloads == [0, 0]
