"""Models by their id on a Hugging Face hub: fetched as plain files, and pushed."""

import os
import re
import shutil
from pathlib import Path

from rnagan.io.files import atomic_path

PREFIX = "hf:"  # of an id on the command line, where OWNER/NAME alone may be a mistyped folder
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_WANTED = ("model/*", "README.md")  # what `export_model` writes; code, if there is any, stays where it is


def is_hub_id(name: str | Path) -> bool:
    """Whether this is text OWNER/NAME and nothing on this disk. A `Path` is none: a mistyped one stays at home."""
    return isinstance(name, str) and bool(_ID.fullmatch(name)) and ".." not in name and not Path(name).exists()


def fetched(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: `name` itself, or where it is hf:OWNER/NAME, or OWNER/NAME and no path, its files from
    the hub.

    They are kept in `$RNAGAN_CACHE/hub` (by default ~/.cache/rnagan/hub) by commit, as copies without links: the hub's
    own cache links files, which model folders refuse. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` have
    their usual meaning. Nothing of what is fetched is run. Raises `ValueError` where there is no such model, or no way
    to it.
    """
    if not str(name).startswith(PREFIX) and not is_hub_id(name):
        return Path(name)
    name = str(name).removeprefix(PREFIX)
    if not _ID.fullmatch(name) or ".." in name:
        raise ValueError(f"{name} is no id of a model on the hub; it must be OWNER/NAME.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(name, revision=revision, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"There is no folder {name}, and no model of this name could be fetched from the hub ({reason})."
        ) from None
    kept = _cache() / name.replace("/", "--") / snapshot.name
    if not kept.is_dir():
        if not (snapshot / "model/model.json").is_file():
            raise ValueError(f"{name} on the hub holds no model of rnagan export-model, or it was fetched in part.")
        blobs = snapshot.parents[1].resolve()
        with atomic_path(kept) as temporary:
            for path in sorted(snapshot.rglob("*")):
                if path.is_file():
                    if not path.resolve().is_relative_to(blobs):
                        raise ValueError(f"{path} leads out of the hub's cache; delete {blobs}.")
                    target = temporary / path.relative_to(snapshot)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
    return kept


def push(folder: Path, name: str, private: bool = True) -> str:
    """Create the repository OWNER/NAME, private unless asked otherwise, and upload a folder; returns its address.

    The token is that of `HF_TOKEN` or of `hf auth login`. Raises `ValueError` with the hub's own reason.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if private and not api.repo_info(name).private:  # one that was there keeps what it is
            raise ValueError(f"{name} is public on the hub; make it private there, or choose another name.")
        done = api.upload_folder(repo_id=name, folder_path=folder, delete_patterns="model/*")
        return str(done.repo_url)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(f"{folder} could not be pushed to {name} ({str(error).strip().splitlines()[0]}).") from None


def _cache() -> Path:
    base = os.environ.get("RNAGAN_CACHE")
    return (Path(base) if base else Path.home() / ".cache" / "rnagan") / "hub"
