"""All checks, one after another, printed as they are done."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rnagan.config.gan import GANConfig
from rnagan.doctor.environment import check_mlruns, check_open_files, check_shared_memory, check_versions
from rnagan.doctor.findings import Section, render, summary

if TYPE_CHECKING:
    from rnagan.data.index import ShardSet
    from rnagan.doctor.launched import LaunchConfig
    from rnagan.doctor.reading import Chosen

RESOLUTIONS = (512, 256, 128, 64, 32)  # that a GAN can have, px


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to examine: this machine for a run of `config` on the tiles of `shards`, started by each of `launches`.

    `fit_resolution` takes the highest resolution that the tiles allow in place of the config's. `timeout`: seconds
    that a launch may take.
    """

    config: GANConfig
    fit_resolution: bool = False
    launches: tuple[Path, ...] = ()
    shards: str | None = None
    cohort: Path | None = None
    timeout: float = 60.0


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What is wanted, opened."""

    config: GANConfig
    launches: list["LaunchConfig"]
    shards: "ShardSet | None"
    chosen: "Chosen | None"


class _Examination:
    """Sections as they come, printed at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.sections: list[Section] = []
        self._say = say

    def add(self, title: str, *checks: Callable[[Section], None]) -> Section:
        """Run the checks of a section. Its title is printed before, its lines after each check."""
        section = Section(title)
        self.sections.append(section)
        self._say(title)
        printed = 0
        for check in checks:
            check(section)
            for line in section.lines[printed:]:
                self._say(render(line))
            printed = len(section.lines)
        self._say("")
        return section


def examine(wanted: Wanted, say: Callable[[str], None]) -> list[Section]:
    """Run every check that is wanted. Raises `ValueError` or `FileNotFoundError` for inputs that can't be used."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("The doctor is one process: start it with python, and name the launch config with --launch.")
    if wanted.cohort and not wanted.shards:
        raise ValueError("--cohort chooses among the slides of --shards; give both.")
    examination = _Examination(say)
    try:
        inputs = _open(wanted)
    except ImportError as error:
        examination.add("Versions", check_versions, partial(_stop, error=error))
    else:
        _examine(examination, inputs, wanted.timeout)
    say(summary(examination.sections))
    return examination.sections


def _stop(section: Section, error: ImportError) -> None:
    section.problem(f"Nothing else could be examined: {error}.", "install what is needed, and start again")


def _open(wanted: Wanted) -> _Inputs:
    """Open everything before any check: a mistake is reported at once. Imports what the checks need."""
    from rnagan.cohort.table import read_cohort
    from rnagan.data.index import open_dataset
    from rnagan.doctor import machine, rates  # noqa: F401
    from rnagan.doctor.launched import read_launch_config
    from rnagan.doctor.reading import choose
    from rnagan.training.run_checks import check_run

    launches = [read_launch_config(path) for path in wanted.launches]
    if wanted.shards is None:
        return _Inputs(wanted.config, launches, None, None)
    cohort = read_cohort(wanted.cohort) if wanted.cohort else None
    shards, config = open_dataset(wanted.shards), wanted.config
    if wanted.fit_resolution:
        fitting = (side for side in RESOLUTIONS if shards.tile_px % side == 0)
        config = config.replace(resolution=next(fitting, config.resolution))
    check_run(config, shards, 1)
    chosen = choose(shards, cohort, config)
    return _Inputs(config.counted_in_images(chosen.order.epoch_length), launches, shards, chosen)


def _examine(examination: _Examination, inputs: _Inputs, timeout: float) -> None:
    from rnagan.doctor.launched import check_launch
    from rnagan.doctor.machine import check_machine
    from rnagan.doctor.rates import Rates, check_outlook, check_step
    from rnagan.doctor.reading import check_reading, decode_rate, loader_rate

    config, shards, chosen = inputs.config, inputs.shards, inputs.chosen
    tile_px = config.resolution if shards is None else shards.tile_px
    examination.add("Versions", check_versions, check_mlruns)
    # Before this process touches a GPU: one that may be used by one process at a time would refuse the launched ones.
    for launch in inputs.launches:
        examination.add(f"Launch {launch.path}", partial(check_launch, config=launch, timeout=timeout))
    if not inputs.launches:
        untried = "Not tried: --launch launch_configs/X.yaml starts one, and says what came up."
        examination.add("Launch", lambda section: section.note(untried))
    machine = examination.add("Processors", check_machine)
    examination.add(
        "Memory and files",
        partial(check_shared_memory, config=config, tile_px=tile_px),
        partial(check_open_files, config=config),
    )
    tiles = None
    if shards is None or chosen is None:
        unmeasured = "Not measured: --shards FOLDER measures how fast tiles are read and decoded."
        examination.add("Tiles", lambda section: section.note(unmeasured))
    else:
        check = partial(check_reading, shards=shards, chosen=chosen, config=config)
        tiles = examination.add(f"Tiles of {shards.address}", check)
    title = f"Training step at {config.resolution} px"
    step = examination.add(title, partial(check_step, config=config, tile_px=tile_px)).figures
    if "step_images_per_second" in step:
        rates = Rates(
            step["step_images_per_second"],
            loader=None if tiles is None else loader_rate(tiles.figures),
            decode=None if tiles is None else decode_rate(tiles.figures),
            gpus=0 if step["device"].startswith("cpu") else len(machine.figures["gpus"]),
        )
        examination.add("Outlook, one process", partial(check_outlook, config=config, rates=rates))
