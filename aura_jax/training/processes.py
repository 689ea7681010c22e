"""Join several processes that train together, and let them agree when to stop."""

import re

import jax
import numpy as np
from jax.experimental import multihost_utils

from aura_jax.errors import TrainingError


def join(coordinator: str) -> None:
    """Make this process one of several that train together.

    Args:
        coordinator: HOST:PORT,COUNT,INDEX with the address of process 0; or "auto" on a cluster
            that provides all three.

    Raises:
        TrainingError: if it has another form, or no cluster is found.
    """
    if coordinator == "auto":
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise TrainingError(f"coordinator auto: no cluster was found ({error})") from None
        return
    match = re.fullmatch(r"(.+:\d+),(\d+),(\d+)", coordinator)
    if match is None or int(match[3]) >= int(match[2]):
        raise TrainingError(f"coordinator {coordinator!r}: expected HOST:PORT,COUNT,INDEX or auto")
    jax.distributed.initialize(match[1], int(match[2]), int(match[3]))


def anywhere(here: bool) -> bool:
    """Return whether a condition holds in any process, so that all stop at the same step."""
    if jax.process_count() == 1:
        return here
    return bool(multihost_utils.process_allgather(np.array(here)).any())
