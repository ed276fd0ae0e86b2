"""Whether a run may go on, or is done already: its settings and inputs beside those that it was started with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from accelerate import Accelerator

from rnagan.config.base import Config, family, load_config, may_change_on_resume
from rnagan.io.files import read_json
from rnagan.runtime import progress
from rnagan.runtime.distributed import processes
from rnagan.training.launch import end_together


class Product(TypedDict):
    """What the record of a run's product says of the run."""

    made_from: dict[str, str]
    kind: NotRequired[str]
    config: NotRequired[dict[str, Any]]


def is_made(
    config: Config, made_from: Mapping[str, str], folder: Path, record: Path, product: Path, accelerator: Accelerator
) -> bool:
    """Whether a run has left its product; then that is said, and the processes end together.

    The main process looks at the product's record for all: others may see files late. Raises as `check_same_run`.
    """
    here = processes()
    before = here.from_main(lambda: read_json(record, Product) if record.is_file() else None)
    if before is None:
        return False
    check_same_run(config, made_from, before, folder)
    if here.is_main:
        progress.say(f"{product} is up to date.")
    end_together(accelerator, wait=True)
    return True


def check_same_run(config: Config, made_from: Mapping[str, str], before: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run of another kind, other settings or inputs.

    `before`: what its checkpoint or its product says: `made_from`, and `kind` and `config` but for a GAN's checkpoint,
    whose settings are in the folder's config.yaml.
    """
    if before.get("kind", "gan") != family(type(config)):
        raise ValueError(f"{folder} holds a run of another kind; choose another --out.")
    settings = before["config"] if "config" in before else load_config(type(config), folder / "config.yaml").to_dict()
    check_same_settings(config, settings, folder)
    check_made_from(made_from, before["made_from"], folder)


def check_same_settings(config: Config, before: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings that differ from those a run was started with, but for those that a resumed run may change."""
    now, free = config.to_dict(), may_change_on_resume(type(config))
    changes = [
        f"{name} {before.get(name)} → {now[name]}"
        for name in sorted(now)
        if now[name] != before.get(name) and name not in free
    ]
    if changes:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(changes)}); choose another --out or the same "
            "settings."
        )


def check_made_from(now: Mapping[str, str], before: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on with a run whose inputs, by their digests, aren't what it was started with."""
    differs = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if differs:
        raise ValueError(f"{folder} was started with another {' and another '.join(differs)}; choose another --out.")
