"""Optional dependencies, and the extras of this package that install them."""

from collections.abc import Iterator
from contextlib import contextmanager

from aura_jax.errors import AuraError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that names the extra to install.

    Raises:
        AuraError: if a package is missing that `pip install "aura-jax[EXTRA]"` installs.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "aura_jax":
            raise
        raise AuraError(f'{package} is not installed: pip install "aura-jax[{extra}]"') from None
