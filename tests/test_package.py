"""Promises of the package: what its import does, what is documented, what runs as it is written."""

import inspect
import pkgutil
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
from convert import __main__ as conversion
from convert import perceptual
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


def test_import_is_cheap_and_needs_no_extra():
    """In one process, in which first nothing is imported, then JAX; then packages are missing."""
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

sys.modules["msgspec"] = None
from aura_jax import *
try:
    aura_jax.latents.LatentSource
except aura_jax.AuraError as error:
    print(error)
del sys.modules["msgspec"]

sys.modules["torch"] = None
import aura_jax.cli.app, aura_jax.photo_latents
"""
    assert python(code) == 'msgspec is not installed: pip install "aura-jax[cache]"'


def test_the_library_never_imports_torch():
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


@pytest.mark.parametrize("facade", FACADES, ids=lambda facade: facade.__name__)
def test_functions_are_not_hidden_by_modules(facade: ModuleType):
    """A module `measure` beside a function `measure` would take its name when it is imported."""
    for module in pkgutil.iter_modules(facade.__path__):
        if module.name in facade.__all__:
            assert isinstance(getattr(facade, module.name), ModuleType)


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


# test_flow_example.py runs that one.
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {ROOT / "examples" / "flow_on_latents.py"})
ARGUMENTS = {
    "sample_photographs": ["--variants", "2", "--collages", "1"],
    "flip_a_photograph": ["--photo", "000.png"],
}
SMALLER = {"README": ("256, 256", "32, 32"), "sample_photographs": ("LEAVES = 256", "LEAVES = 64")}


def script(path: Path, text: str) -> tuple[str, list[str], str]:
    """A file's path, arguments and Python, in which images are few and small."""
    if path.stem in SMALLER:
        large, small = SMALLER[path.stem]
        assert text.count(large) == 1
        text = text.replace(large, small)
    return str(path), ARGUMENTS.get(path.stem, []), text


def test_examples_and_the_readmes_python_run(tmp_path: Path):
    """In one process, which imports JAX once; `make demo` flips the whole photograph."""
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) >= 2
    scripts = [script(path, path.read_text()) for path in EXAMPLES]
    scripts.append(script(ROOT / "README.md", "".join(snippets)))
    write_photos(tmp_path, 1, size=32)
    (tmp_path / "photo.jpg").symlink_to(ROOT / "examples" / "chelsea.jpg")
    code = f"""
import sys
for path, words, text in {scripts!r}:
    sys.argv = [path, *words]
    exec(compile(text, path, "exec"), {{"__name__": "__main__", "__file__": path}})
"""
    assert len(python(code, tmp_path).splitlines()) == len(EXAMPLES)
    assert {"flips.png", "flipped.png", "photos"} <= {path.name for path in tmp_path.iterdir()}


def test_the_python_about_latents_runs(weights: Path, tmp_path: Path):
    """As scripts, which worker processes import again, on caches of the fake encoder."""
    photos = write_photos(tmp_path / "photos" / "a", 6, size=SIZE).parent
    for out, form in (("latents", "arrayrecord"), ("tars", "webdataset")):
        finished(photos, tmp_path / out, weights, format=form, per_shard=2)
    invoke(app, "cache", "stats", tmp_path / "latents")
    buckets = [Bucket(16, 16), Bucket(8, 24)]
    finished(photos, tmp_path / "ratios", weights, size=None, buckets=buckets)
    train, workers, torch, tars, ratios = re.findall(r"```python\n(.*?)```", LATENTS, re.DOTALL)
    assert workers.count("num_workers=2") == 1
    workers = workers.replace("num_workers=2", "num_workers=1")
    shape, count = "    print([*batch['latent'].shape])\n", "print(len([*samples]))\n"
    of_ratio = "if __name__ == '__main__':\n    print(batch['latent'].shape[1:])\n"
    scripts = {
        train + workers + shape + ratios + of_ratio: "[4, 8, 8, 16]\n(8, 8, 16)\n",
        torch + shape + tars + count: "[4, 8, 8, 16]\n6\n",
    }
    for text, printed in scripts.items():
        (tmp_path / "script.py").write_text(text)
        assert output([sys.executable, "script.py"], tmp_path) == printed


CONVERSIONS = {"convert": conversion.app, "convert.perceptual": perceptual.app}


def _command(words: list[str]) -> list[str]:
    """The command that the words begin with, of which `cache` has several."""
    return words[: 2 if words[0] == "cache" else 1]


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
            help_text = invoke(CONVERSIONS[words[2]], "--help")
        options = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} - {"-m"}
        assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", help_text)), line
