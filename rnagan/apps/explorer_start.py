"""Open what the explorer shows, try it once, and serve it."""

import dataclasses
from pathlib import Path

import torch

from rnagan.apps.explored_model import ExploredModel, open_explored
from rnagan.apps.explored_sections import Sections, find_sections
from rnagan.apps.explored_tiles import RealTiles, open_real_tiles
from rnagan.apps.explorer import explorer, first_profile
from rnagan.apps.explorer_answers import ExplorerService
from rnagan.apps.shell import Address, serve
from rnagan.apps.visitor_queue import VisitorQueue
from rnagan.cohort.table import read_cohort
from rnagan.evaluation.spatial_measures import measure_spots, nuclear_level
from rnagan.latent.profiles import Choice
from rnagan.runtime.devices import AUTO
from rnagan.runtime.progress import say

_MEASURED = 64  # real tiles that say what a nucleus is


def start_explorer(
    model: Path,
    choice: Choice,
    programme: Path | None,
    cohort: Path | None,
    shards: Path | str | None,
    address: Address,
    check: bool = False,
    device: str | torch.device = AUTO,
) -> None:
    """Serve the explorer until it is stopped; with `check`, generate once and stop. Raises as `open_explored` and
    `open_real_tiles`."""
    if shards is not None and cohort is None:
        raise ValueError("--shards needs --cohort, the table that says whose the tiles are.")
    explored = open_explored(model, choice, programme, device)
    real: RealTiles | None = None
    sections: Sections | None = None
    if cohort is not None:
        table = read_cohort(cohort)
        sections = find_sections(table, explored.profiles.obs.index.tolist(), cohort)
        if shards is not None:
            real = open_real_tiles(shards, table, explored.model)
            explored = measured_like(explored, real)
    shown = explored.shown(int(first_profile(explored)))
    explored.answer(shown)  # a first time takes longer, and a model that can't generate stops here
    say(_opened(explored, real, sections))
    if check:
        return
    say(f"The explorer is at {address.url}/ (Ctrl-C stops it).")
    if address.admin_token is not None:
        say("It asks for the admin token: any user name, the token as the password.")
    serve(explorer(ExplorerService(explored, real, sections, VisitorQueue()), address), address)


def measured_like(explored: ExploredModel, real: RealTiles) -> ExploredModel:
    """The same with the measures of spots, where tiles have profiles of their own: what counts as a nucleus is found
    from real tiles."""
    if not real.are_of_spots:
        return explored
    level, mpp = nuclear_level(real.sample(_MEASURED)), explored.model.mpp
    return dataclasses.replace(explored, measures=lambda tiles: measure_spots(tiles, mpp, level))


def _opened(explored: ExploredModel, real: RealTiles | None, sections: Sections | None) -> str:
    movable = len(explored.programmes) or len(explored.dimensions)
    what = "dimensions" if explored.dimensions else "programmes"
    beside = "no real tiles" if real is None else "real tiles"
    maps = "" if sections is None else f", {len(sections.all):,} sections"
    return f"{len(explored.profiles.obs):,} profiles, {movable:,} {what}, {beside}{maps}."
