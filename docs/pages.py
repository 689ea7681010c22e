"""A Sphinx extension: links into the repository, Python that runs, and a complete reference."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from flax import nnx
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import inspect, logging

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/aura-jax/aura-jax"
NOTEBOOK = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
LOGGER = logging.getLogger(__name__)
INPUTS = ROOT / "out" / "docs_inputs"
# Runs before a page's own code, in an empty folder.
FIRST = f"""```{{code-cell}}
:tags: [remove-cell]
import shutil
shutil.copytree({str(INPUTS)!r}, ".", dirs_exist_ok=True)
```

"""


def write_inputs(app: Sphinx) -> None:
    """Write the inputs of the pages' Python, in a process whose threads end with it."""
    subprocess.run([sys.executable, ROOT / "docs" / "inputs.py", INPUTS], check=True)


def absolute(link: re.Match[str]) -> str:
    """Make a link to a file of the repository absolute, and warn if there is no such file."""
    if not (ROOT / link[1]).exists():
        LOGGER.warning("link to a missing file of the repository: %s", link[1])
    return f"]({REPOSITORY}/blob/main/{link[1]})"


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Make a page that has Python a notebook, and its links to files outside of docs/ absolute."""
    text = re.sub(r"\]\(\.\./([^)]+)\)", absolute, source[0])
    before, cell, after = text.partition("```python\n")
    if cell:
        code = "```{code-cell}\n"
        text = NOTEBOOK + before + FIRST + code + after.replace(cell, code)
    source[0] = text


def read_included(app: Sphinx, path: Path, parent: str, source: list[str]) -> None:
    """Make links of README.md and CHANGELOG.md absolute, except those to pages of the site."""
    source[0] = re.sub(r"\]\((?!docs/|https?:|#)([^)]+)\)", absolute, source[0])


def clean_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]):
    """Make indented blocks code, as in Markdown, and drop generated texts of tuples' fields."""
    text = re.sub(r"^(\S.*\n)\n(?= {4}\S)", r"\1\n::\n\n", "\n".join(lines), flags=re.MULTILINE)
    lines[:] = re.sub(r"^Alias for field number \d+$", "", text).split("\n")


def sign_modules(app: Sphinx, what: str, name: str, obj: Any, *_: Any) -> tuple[str, None] | None:
    """Give a Flax module the signature of its `__init__`; its metaclass hides it."""
    if what == "class" and issubclass(obj, nnx.Module):
        signature = inspect.signature(obj.__init__, bound_method=True)
        return inspect.stringify_signature(signature, unqualified_typehints=True), None
    return None


def check_reference(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that the reference lacks."""
    documented = {entry[0] for entry in env.get_domain("py").get_objects()}
    for stub in sorted((ROOT / "aura_jax").rglob("__init__.pyi")):
        facade = ".".join(stub.parent.relative_to(ROOT).parts)
        names = [f"{facade}.{name}" for name in importlib.import_module(facade).__all__]
        for name in sorted({facade, *names} - documented):
            LOGGER.warning("docs/api has no entry for %s", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx's events."""
    app.connect("builder-inited", write_inputs)
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    app.connect("autodoc-process-docstring", clean_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", sign_modules)
    app.connect("env-check-consistency", check_reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
