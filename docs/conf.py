"""Settings of the site, which `make docs` builds into out/docs."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Kernels run the code of pages in other folders.
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# They share compiled programs with the tests, which need the same settings, and with later builds.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1"

import pages  # noqa: E402  after the settings, which JAX reads when it is imported

import aura_jax  # noqa: E402  as above

project, author, release = "aura-jax", "the aura-jax authors", aura_jax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "pages"]

html_theme = "furo"
html_title = f"aura-jax {release}"
html_static_path, html_css_files = ["static"], ["site.css"]
html_show_copyright = html_show_sphinx = False
html_theme_options = {
    "source_repository": pages.REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
myst_heading_anchors = 3
smartquotes = False  # they would change --options

# Docstrings are written in Google's style, with `code` in single backticks.
default_role = "py:obj"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
# Type aliases and packages of others have no page here.
nitpicky = True
nitpick_ignore_regex = [("py:(class|exc)", ".*"), ("py:obj", r"(?!aura_jax).*")]

nb_execution_mode = "force"  # a cache would not notice changes of the library
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_output_stderr = "remove"
