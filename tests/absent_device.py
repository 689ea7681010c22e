"""A stand-in for a device that is not here."""

from types import SimpleNamespace
from typing import Any


def absent(platform: str, capability: str = "9.0", kind: str = "") -> Any:
    """Return what plans read of a device: its platform, compute capability and kind."""
    return SimpleNamespace(platform=platform, compute_capability=capability, device_kind=kind)
