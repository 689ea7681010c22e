"""Promises of the package: what its import does, what is documented, what runs as it is written."""

import functools
import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import aura_jax
from aura_jax.cli.app import app
from aura_jax.latents.buckets import Bucket
from tests.cache_folder import SIZE, finished, weights
from tests.commands import invoke, quick_environment
from tests.conftest import ROOT
from tests.photo_folder import write_photos

__all__ = ["weights"]  # a fixture

README, LATENTS = ((ROOT / name).read_text() for name in ("README.md", "docs/latents.md"))
PAGES = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))


def python(code: str, cwd: Path = ROOT) -> str:
    return output([sys.executable, "-c", code], cwd).strip()


def output(command: list[str], cwd: Path) -> str:
    result = subprocess.run(
        command, cwd=cwd, env=quick_environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_is_cheap_and_touches_nothing():
    code = """
import sys
import aura_jax
assert "numpy" not in sys.modules and "lazy_loader" not in sys.modules
import jax
flags = dict(jax.config.values)
import aura_jax.runtime.functional, aura_jax.checkpoint.loading
assert dict(jax.config.values) == flags
heavy = {"torch", "PIL", "typer", "huggingface_hub", "dm_pix"} & set(sys.modules)
assert not heavy, heavy
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    python(code)


def test_latents_without_their_extra_say_what_to_install():
    code = """
import sys
sys.modules["msgspec"] = None
from aura_jax import *
try:
    aura_jax = __import__("aura_jax")
    aura_jax.latents.LatentSource
except aura_jax.AuraError as error:
    print(error)
"""
    assert python(code) == 'msgspec is not installed: pip install "aura-jax[cache]"'


def test_the_library_never_imports_torch():
    python(
        "import sys; sys.modules['torch'] = None; import aura_jax.cli.app, aura_jax.photo_latents"
    )
    sources = "\n".join(path.read_text() for path in (ROOT / "aura_jax").rglob("*.py"))
    assert not re.search(r"^\s*(import|from) (torch|convert)\b", sources, re.MULTILINE)


FACADES = (
    *(aura_jax, aura_jax.images, aura_jax.latents, aura_jax.training),
    *(aura_jax.equivariance, aura_jax.evaluation),
)


@pytest.mark.parametrize("facade", FACADES, ids=lambda facade: facade.__name__)
def test_every_public_name_is_documented(facade: ModuleType):
    assert facade.__doc__
    for name in facade.__all__:
        value = getattr(facade, name)
        if not (isinstance(value, ModuleType) or callable(value)):
            continue  # a constant or a type alias
        written = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
        assert written, name  # its own, not of a base class
        assert not written.startswith((f"{name}(", f"Alias for {name}")), f"{name}: generated"
    for name in ("load", "save", "encode", "decode", "flip_images", "flip_latents", "perturb"):
        assert "Args:" in (inspect.getdoc(getattr(aura_jax, name)) or ""), name


def test_the_facade_lists_all_its_names():
    assert {"load", "Codec", "latents", "training", "equivariance", "__version__"} <= {
        *dir(aura_jax)
    }
    for facade in FACADES:
        stub = Path(str(facade.__file__) + "i").read_text()
        assert {*re.findall(r"import \w+ as (\w+)", stub)} == {*facade.__all__} <= {*dir(facade)}
        names: dict[str, object] = {}
        exec(f"from {facade.__name__} import *", names)
        assert {*facade.__all__} <= {*names}
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(aura_jax, "no_such_name")  # noqa: B009  pyright knows that too


@pytest.mark.parametrize("first", ["aura_jax.equivariance", "aura_jax.equivariance.measures"])
def test_functions_are_not_hidden_by_modules(first: str):
    """A module `measure` beside a function `measure` would take its name when it is imported."""
    code = f"""
import importlib, types
importlib.import_module({first!r})
import aura_jax.equivariance.reports, aura_jax.equivariance as equivariance, pkgutil
modules = [module.name for module in pkgutil.iter_modules(equivariance.__path__)]
assert not {{*modules}} & {{*equivariance.__all__}}
assert isinstance(equivariance.measure, types.FunctionType)
assert isinstance(equivariance.report, types.FunctionType)
"""
    python(code)


def test_the_wheel_holds_the_library_alone(tmp_path: Path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob(f"aura_jax-{aura_jax.__version__}-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith(".jsonl")]  # logs of the weights' training
    weights = {"aura_jax/weights/small.safetensors", "aura_jax/weights/README.md"}
    assert weights | {"aura_jax/images/chelsea.jpg"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aura_jax"}


EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {ROOT / "examples" / "flow_on_latents.py"})


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)  # that one has its test
def test_examples_run(script: Path, tmp_path: Path):
    """With few and small images; `make demo` flips the whole photograph."""
    (photo,) = write_photos(tmp_path / "few", 1).iterdir()
    few = {
        "sample_photographs": ["--variants", "2", "--collages", "1"],
        "flip_a_photograph": ["--photo", str(photo)],
    }
    assert output([sys.executable, str(script), *few.get(script.stem, [])], tmp_path)


def test_the_readmes_python_runs(tmp_path: Path):
    """All snippets in one go, on the embedded checkpoint and smaller images."""
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) >= 2
    assert sum(snippet.count("256, 256") for snippet in snippets) == 1
    snippets = [snippet.replace("256, 256", "32, 32") for snippet in snippets]
    (tmp_path / "photo.jpg").symlink_to(ROOT / "examples" / "chelsea.jpg")
    python("\n".join(snippets), tmp_path)


def test_the_python_about_latents_runs(weights: Path, tmp_path: Path):
    """As scripts, which worker processes import again, on caches of the fake encoder."""
    photos = write_photos(tmp_path / "photos" / "a", 6, size=SIZE).parent
    for out, form in (("latents", "arrayrecord"), ("tars", "webdataset")):
        finished(photos, tmp_path / out, weights, format=form, per_shard=2)
    invoke(app, "cache", "stats", tmp_path / "latents")
    buckets = [Bucket(16, 16), Bucket(8, 24)]
    finished(photos, tmp_path / "ratios", weights, size=None, buckets=buckets)
    train, workers, torch, tars, ratios = re.findall(r"```python\n(.*?)```", LATENTS, re.DOTALL)
    shape, count = "    print([*batch['latent'].shape])\n", "print(len([*samples]))\n"
    scripts = {train + workers + shape: "[4, 8, 8, 16]\n"}
    scripts[train + ratios + "print(batch['latent'].shape[1:])\n"] = "(8, 8, 16)\n"
    scripts[torch + shape + tars + count] = "[4, 8, 8, 16]\n6\n"
    for text, printed in scripts.items():
        (tmp_path / "script.py").write_text(text)
        assert output([sys.executable, "script.py"], tmp_path) == printed


def _command(words: list[str]) -> list[str]:
    """The command that the words begin with, of which `cache` has several."""
    return words[: 2 if words[0] == "cache" else 1]


@functools.cache
def python_help(module: str) -> str:
    return subprocess.check_output([sys.executable, "-m", module, "--help"], cwd=ROOT, text=True)


def test_documented_commands_exist():
    """Every make target, command and option that the README and the guides name."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", PAGES, re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    lines = re.findall(r"^(?:aura-jax|python -m convert[.a-z]*) .*", PAGES, re.MULTILINE)
    assert len(lines) >= 20
    for line in lines:
        words = line.split("#")[0].split()
        if words[0] == "aura-jax":
            help_text = invoke(app, *_command(words[1:]), "--help")
        else:
            help_text = python_help(words[2])
        options = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} - {"-m"}
        assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", help_text)), line
