"""Trainings of other settings or inputs in a reproduction's folder: their commands would refuse to go on with them."""

import itertools
from pathlib import Path

from rnagan.article.experiments import Cohort
from rnagan.article.modes import MODES, run_configs
from rnagan.config.base import Config, load_config
from rnagan.config.reproduction import Settings
from rnagan.data.index import open_dataset
from rnagan.generation import RECORD, Generated
from rnagan.io.files import read_json, sha256_of_file
from rnagan.runtime.progress import say
from rnagan.tracking.run_folder import RunFolder, run_digest
from rnagan.training.same_run import check_made_from, check_same_settings
from rnagan.training.tile_inputs import TileInputs, digests

EARLIER = "earlier"  # folder of the runs that were moved away
_DECIDE = ("batch_size", "precision")  # a run may change them when it goes on; a finished one has another result


def set_aside(cohort: Cohort, settings: Settings, out: Path, pretraining_each: int) -> None:
    """Move every run in `out` that isn't of these settings and inputs, nor can go on with them, to `out/earlier`.

    `pretraining_each`: tiles of each profile that SimCLR learns from. A run also depends on those before it: on another
    β-VAE the RNA-GAN is trained again, and on tiles of another RNA-GAN SimCLR.
    """
    vae = _keeps(out / "vae", settings.vae, {"expression": sha256_of_file(cohort.expression)})
    rnagan = _keep_modes(cohort, settings, out, vae)
    tiles = _tiles_of_pretraining(out, pretraining_each) if rnagan else None
    _keeps(out / "simclr", settings.simclr, None if tiles is None else {"shards": tiles})


def _keep_modes(cohort: Cohort, settings: Settings, out: Path, vae_is_kept: bool) -> bool:
    """Move the runs of other modes away; whether that of the RNA-GAN stays."""
    without = TileInputs(cohort.shards, cohort.cohort)
    configs, data = run_configs(settings.gan, without)
    kept = {}
    for mode in MODES:
        made_from: dict[str, str] | None = digests(configs[mode], without, data.shards, data.selection)
        if mode == "rnagan":
            has_vae = vae_is_kept and run_digest(out / "vae") is not None
            inputs = TileInputs(cohort.shards, cohort.cohort, cohort.expression, out / "vae")
            made_from = digests(configs[mode], inputs, data.shards, data.selection) if has_vae else None
        kept[mode] = _keeps(out / "modes" / mode, configs[mode], made_from)
    return kept["rnagan"]


def _tiles_of_pretraining(out: Path, each: int) -> str | None:
    """Digest of the shards that SimCLR learns from, None where they will be generated anew."""
    folder = out / "pretraining"
    if not (folder / RECORD).is_file():
        return None
    record = read_json(folder / RECORD, Generated)
    same = (record["n"], record["model"]) == (each, run_digest(out / "modes/rnagan"))
    if not same or not record.get("finished"):
        return None
    try:
        return open_dataset(folder).digest
    except (FileNotFoundError, ValueError):  # damaged
        return None


def _keeps(folder: Path, config: Config, made_from: dict[str, str] | None) -> bool:
    """Move the run in `folder` away where it isn't of these settings and inputs; whether it stays, or there is none.

    `made_from`: digests of the inputs, None where they will be other ones than it had.
    """
    try:
        run = RunFolder.open(folder)
    except FileNotFoundError:
        return True
    if made_from is not None and _is_of(run, config, made_from):
        return True
    names = (folder.parent / EARLIER / f"{folder.name}-{number}" for number in itertools.count(1))
    aside = next(path for path in names if not path.exists())
    aside.parent.mkdir(exist_ok=True)
    folder.rename(aside)
    say(f"{folder} was trained with other settings or inputs: it is trained anew, and the earlier run is now {aside}.")
    return False


def _is_of(run: RunFolder, config: Config, made_from: dict[str, str]) -> bool:
    try:
        before = load_config(type(config), run.folder / "config.yaml").to_dict()
        check_same_settings(config, before, run.folder)
        check_made_from(made_from, run.made_from, run.folder)
    except ValueError:
        return False
    now = config.to_dict()
    if "images" in now and run.images > now["images"]:
        return False
    return not run.finished or all(before[name] == now[name] for name in _DECIDE)
