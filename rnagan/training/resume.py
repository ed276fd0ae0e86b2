"""What a run that goes on must share with the one that was begun."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnagan.config.base import Config, may_change_on_resume


def check_same_settings(config: Config, before: Mapping[str, Any], out: Path) -> None:
    """Refuse settings that differ from those a run was started with, but for those that a resumed run may change."""
    now, free = config.to_dict(), may_change_on_resume(type(config))
    changes = [
        f"{name} {before.get(name)} → {now[name]}"
        for name in sorted(now)
        if now[name] != before.get(name) and name not in free
    ]
    if changes:
        raise ValueError(
            f"{out} holds a run with other settings ({', '.join(changes)}); choose another --out or the same settings."
        )


def check_made_from(now: Mapping[str, str], before: Mapping[str, str], out: Path) -> None:
    """Refuse to go on with a run whose inputs, by their digests, aren't what it was started with."""
    differs = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if differs:
        raise ValueError(f"{out} was started with another {' and another '.join(differs)}; choose another --out.")
