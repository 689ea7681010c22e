"""Models pushed to a hub on loopback, and pushes that cannot be made."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from aura_jax import AuraEquiVAE, AuraError
from tests.hub_server import COMMIT, Hub
from tests.test_hub import disconnect, hub

__all__ = ["hub"]  # the fixture
NAME = "someone/model"

# huggingface_hub 2.4 uploads large files by an argument of httpx that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the client use Git LFS, and know no token."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def push(vae: AuraEquiVAE, name: str = NAME, token: str | bool | None = "hf_secret") -> str:
    return vae.push_to_hub(name, token=token, photographs=[])


def test_a_push_uploads_the_saved_folder(hub: Hub, tiny_vae: AuraEquiVAE, tmp_path: Path):
    address = tiny_vae.push_to_hub(NAME, private=True, token="hf_secret", photographs=[])
    assert address == f"{hub.address}/{NAME}/commit/{COMMIT}"
    (created,) = hub.created
    assert (created["organization"], created["name"]) == tuple(NAME.split("/"))
    assert created.get("private") or created.get("visibility") == "private"  # since 2.0
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert hub.messages == ["Upload AuraEquiVAE"]
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
    assert f'from_pretrained("{NAME}")' in hub.files["README.md"].decode()
    tiny_vae.save_pretrained(tmp_path / "model", photographs=[])
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == hub.files[name]


def test_a_branch_and_a_message(hub: Hub, tiny_vae: AuraEquiVAE):
    tiny_vae.push_to_hub(
        NAME, token="hf_secret", revision="next", commit_message="Trained longer", photographs=[]
    )
    assert hub.revisions == ["next"]
    assert hub.messages == ["Trained longer"]


@pytest.mark.parametrize(
    "name", ["model", "a/b/c", "a/", "/tmp/model", "https://huggingface.co/a/b"]
)
def test_names_that_are_no_repositories(hub: Hub, tiny_vae: AuraEquiVAE, name: str):
    with pytest.raises(AuraError, match=r"not the name of a repository; give OWNER/NAME$"):
        push(tiny_vae, name)
    assert not hub.created


@pytest.mark.parametrize("token", [None, False, True, ""])
def test_without_a_token_nothing_is_measured_or_sent(hub: Hub, tiny_vae: AuraEquiVAE, token):
    with pytest.raises(AuraError, match=r"no access token for the hub; run hf auth login or"):
        tiny_vae.push_to_hub(NAME, token=token, photographs="no.jpg")
    assert not hub.created


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_push_is_one_line(hub: Hub, tiny_vae: AuraEquiVAE, status: int):
    hub.refusal = status
    with pytest.raises(AuraError, match=r"someone/model: cannot be pushed .*; check") as error:
        push(tiny_vae)
    assert len(str(error.value).splitlines()) == 1
    assert not hub.files


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_no_network_is_one_line_at_once(
    tiny_vae: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
):
    disconnect(monkeypatch, tmp_path, how)
    with pytest.raises(AuraError, match=r"someone/model: cannot be pushed .*; check") as error:
        push(tiny_vae)
    assert len(str(error.value).splitlines()) == 1
