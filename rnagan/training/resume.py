"""What a run that goes on must share with the one that was begun."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


def check_same_settings(
    now: Mapping[str, Any], before: Mapping[str, Any], out: Path, may_change: Collection[str]
) -> None:
    """Refuse settings that differ from those a run was started with, but for those that don't decide its result."""
    differs = sorted(name for name in now if now[name] != before.get(name) and name not in may_change)
    if differs:
        told = ", ".join(f"{name} {before.get(name)} → {now[name]}" for name in differs)
        raise ValueError(f"{out} holds a run with other settings ({told}); choose another --out or the same settings.")


def check_made_from(now: Mapping[str, str], before: Mapping[str, str], out: Path) -> None:
    """Refuse to go on with a run whose inputs, by their digests, aren't what it was started with."""
    differs = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if differs:
        raise ValueError(f"{out} was started with another {' and another '.join(differs)}; choose another --out.")
