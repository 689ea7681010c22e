"""Exported programs: what they compute, where they run, and what is refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, AuraError
from aura_jax.cli.app import app
from aura_jax.model.parameters import split
from aura_jax.runtime import export as module
from aura_jax.runtime.choices import PLATFORMS
from tests.commands import invoke
from tests.random_models import random_vae

SIDE, CONFIG = 8, AuraConfig(32, (2,), 1, 4)  # one level, which compiles fast
FILES = {f"{part}-8x8.jaxexport" for part in ("encode", "decode")} | {
    *("export.json", "loader.py", "model.safetensors")
}
# What a machine has that serves the programs: no aura_jax, no Flax, no safetensors.
SERVE = """
import runpy
import sys
for name in ("aura_jax", "flax", "safetensors"):
    sys.modules[name] = None
import numpy as np
for folder in sys.argv[1:]:
    loader = runpy.run_path(f"{folder}/loader.py")
    inputs = np.load(f"{folder}/inputs.npz")
    results = {name: loader["load"](name)(inputs[name]) for name in inputs}
    np.savez(f"{folder}/results", **{name: np.asarray(x, "f") for name, x in results.items()})
"""


def export(vae: AuraEquiVAE, folder: Path, **options: Any) -> Path:
    aura_jax.export(vae, folder, shapes=[(SIDE, SIDE)], **options)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a float32 model for all platforms."""
    return export(random_vae(CONFIG), tmp_path_factory.mktemp("export"), platforms=PLATFORMS)


@pytest.fixture(scope="module")
def half_vae(exported: Path) -> AuraEquiVAE:
    """Load the exported weights to compute in bfloat16."""
    return aura_jax.load(exported, dtype="bfloat16", param_dtype="bfloat16")


def test_programs_run_without_this_package_and_compute_the_same(
    exported: Path, half_vae: AuraEquiVAE, tmp_path: Path
):
    """In batches of 1 and 3 images, in float32 and in bfloat16."""
    vae, half, rng = aura_jax.load(exported, dtype="float32"), tmp_path, np.random.default_rng(0)
    export(half_vae, half, platforms=["cpu", "cuda"])
    images = rng.uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)
    latents = rng.normal(size=(1, SIDE, SIDE, 4)).astype(np.float32)
    inputs: dict[str, Any] = {"encode-8x8": images, "decode-8x8": latents}
    np.savez(exported / "inputs", **inputs)
    one: dict[str, Any] = {"encode-8x8": images[:1]}
    np.savez(half / "inputs", **one)
    command = [sys.executable, "-c", SERVE, exported, half]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for folder, name, expected in (
        (exported, "encode-8x8", aura_jax.encode(vae, images)),
        (exported, "decode-8x8", aura_jax.decode(vae, latents)),
        (half, "encode-8x8", aura_jax.encode(half_vae, images[:1])),
    ):
        with np.load(folder / "results.npz") as results:
            np.testing.assert_array_equal(results[name], np.asarray(expected, np.float32))


def test_the_folder_is_described_and_programs_hold_no_weights(exported: Path):
    assert {path.name for path in exported.iterdir()} >= FILES
    about = json.loads((exported / "export.json").read_text())
    assert about["platforms"] == [*PLATFORMS]
    assert about["config"] == json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert about["programs"]["encode-8x8"] == {
        "input": {"shape": ["batch", 8, 8, 3], "dtype": "float32"},
        "output": {"shape": ["batch", 8, 8, 4], "dtype": "float32"},
    }
    weights = (exported / "model.safetensors").stat().st_size
    for path in exported.glob("*.jaxexport"):
        assert 20 * path.stat().st_size < weights


def read(path: Path) -> jax.export.Exported:
    return jax.export.deserialize(bytearray(path.read_bytes()))


def results_of(program: jax.export.Exported, operation: str) -> list[str]:
    """The lines of an operation, each up to its place in the source."""
    lines = program.mlir_module().splitlines()
    return [line.partition(" loc(")[0] for line in lines if f"stablehlo.{operation}" in line]


@pytest.mark.parametrize(("platform", "dtype"), [("cpu", "f32"), ("cuda", "bf16")])
def test_half_precision_sums_as_each_platform_does(
    half_vae: AuraEquiVAE, platform: str, dtype: str
):
    """The machine that exports must not decide: only a CPU keeps sums in float32."""
    program = module.exported(half_vae, "encode", (SIDE, SIDE), [platform])
    assert {line.rpartition("x")[2] for line in results_of(program, "convolution")} == {f"{dtype}>"}


def test_float32_is_not_rounded_to_tf32(exported: Path):
    program = read(exported / "decode-8x8.jaxexport")
    products = results_of(program, "convolution") + results_of(program, "dot_general")
    assert len(products) > 10
    assert all("HIGHEST" in line for line in products)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"platforms": ["gpu"]}, "platform 'gpu': expected one of cpu, cuda, rocm, tpu"),
        ({"platforms": "cuda"}, 'platforms \'cuda\': expected names such as ("cpu", "cuda")'),
        ({"platforms": []}, 'platforms []: expected names such as ("cpu", "cuda")'),
        ({"shapes": [(8, 9)]}, "size (8, 9): expected (height, width) of images in multiples of 2"),
        ({"shapes": [(0, 8)]}, "size (0, 8): expected (height, width) of images in multiples of 2"),
        ({"shapes": [(1, 8, 8)]}, "size (1, 8, 8): expected (height, width) of images in mul"),
        ({"shapes": []}, "shapes []: expected sizes of images, such as [(256, 256)]"),
    ],
)
def test_refusals_name_the_thing_and_write_nothing(
    tiny_vae: AuraEquiVAE, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(AuraError) as error:
        aura_jax.export(tiny_vae, tmp_path / "new", **options)
    assert str(error.value).startswith(message)
    assert [*tmp_path.iterdir()] == []


def test_folders_that_cannot_be_exported_to_are_kept(
    tiny_vae: AuraEquiVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "exported", lambda *_: pytest.fail("refuse before the work"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "export.json").write_text("{}")
    for name, overwrite, message in (
        ("file", True, "file: is a file; give a folder"),
        (".", True, "holds files, but no export; give an empty folder"),
        ("done", False, "done: holds an export already; give another folder or --overwrite"),
    ):
        with pytest.raises(AuraError, match=message):
            aura_jax.export(tiny_vae, tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_is_replaced_whole_or_not_at_all(
    half_vae: AuraEquiVAE, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise AuraError("disk full")

    program = read(exported / "encode-8x8.jaxexport")
    for name in FILES | {"decode-16x16.jaxexport", "mine.txt"}:
        (tmp_path / name).write_text("of the last export")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(module, "exported", lambda *_: program)
    with monkeypatch.context() as patch:
        patch.setattr(module, "save", fail)
        with pytest.raises(AuraError, match="disk full"):
            export(half_vae, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    export(half_vae, tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"mine.txt"}
    assert json.loads((tmp_path / "export.json").read_text())["platforms"] == [*PLATFORMS]


def test_the_command_exports_a_checkpoint(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls, program = [], read(exported / "encode-8x8.jaxexport")

    def record(vae: AuraEquiVAE, *others: Any) -> jax.export.Exported:
        calls.append((vae.encoder.conv_in.dtype, *others))
        return program

    monkeypatch.setattr(module, "exported", record)
    out, words = tmp_path / "new", ("export", "--weights", exported, "--size", 8, "--size", 16)
    about = json.loads(invoke(app, *words, "--platform", "tpu", "--out", out, "--json"))
    assert about == json.loads((out / "export.json").read_text())
    assert {*about["programs"]} == {*("encode-8x8", "decode-8x8", "encode-16x16", "decode-16x16")}
    assert calls[-1] == (np.float32, "decode", (16, 16), ["tpu"])
    words = (*words, "--compute-dtype", "bf16", "--overwrite")
    assert f"{out}/encode-8x8.jaxexport" in invoke(app, *words, "--out", out).replace("\n", "")
    assert calls[-1] == (jnp.bfloat16, "decode", (16, 16), ("cpu", "cuda", "tpu"))
    with pytest.raises(AuraError, match="holds an export already"):
        invoke(app, "export", "--weights", "no such weights", "--out", out)


def test_uint8_is_refused_by_the_program(exported: Path, half_vae: AuraEquiVAE):
    """Levels from 0 to 255 taken as floats would be far outside [-1, 1]."""
    program = read(exported / "encode-8x8.jaxexport")
    weights = {
        f"encoder.{name}": value.astype(jnp.float32)
        for name, value in split(half_vae.encoder)[1].items()
    }
    with pytest.raises(ValueError, match="uint8"):
        program.call(weights, jnp.zeros((1, SIDE, SIDE, 3), jnp.uint8))
