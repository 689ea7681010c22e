"""Settings that a folder of results was started with, which may not change on the way."""

import json
from collections.abc import Mapping
from typing import Any


def differences(written: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """Two lines that show what differs between settings; None if nothing does."""
    keys = [key for key in {**written, **given} if written.get(key) != given.get(key)]
    if not keys:
        return None
    before, now = (json.dumps({key: each.get(key) for key in keys}) for each in (written, given))
    return f"  there: {before}\n  given: {now}"
