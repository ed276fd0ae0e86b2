"""The explorer on toy models, for its tests."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi.testclient import TestClient

from rnagan.apps.explored_model import open_explored
from rnagan.apps.explored_sections import find_sections
from rnagan.apps.explored_tiles import open_real_tiles
from rnagan.apps.explorer import explorer
from rnagan.apps.explorer_answers import ExplorerService
from rnagan.apps.explorer_start import measured_like
from rnagan.apps.shell import Address
from rnagan.apps.visitor_queue import VisitorQueue
from rnagan.cohort.table import read_cohort
from rnagan.latent.profiles import Choice
from rnagan.training.tile_inputs import TileInputs
from tests.apps.made_study import client as client_of

PICTURE = re.compile(r'src="(data:image/png;base64,[^"]+)"')


def write_programmes(path: Path) -> Path:
    """Two programmes of ten and of five of the toy cohort's 30 genes."""
    genes = [f"ENSG{k:011d}" for k in range(15)]
    table = pd.DataFrame({"gene": genes, "loading": 1.0, "programme": ["growth"] * 10 + ["air"] * 5})
    table.to_csv(path, index=False)
    return path


def make_service(run: Path, inputs: TileInputs, programme: Path | None = None, beside: bool = True) -> ExplorerService:
    """A service with all profiles of a run's inputs, its real tiles, and the sections that there are."""
    assert inputs.expression is not None
    explored = open_explored(run, Choice(inputs.expression), programme, "cpu")
    cohort = read_cohort(inputs.cohort)
    sections = find_sections(cohort, explored.profiles.obs.index.tolist(), inputs.cohort)
    real = open_real_tiles(inputs.shards, cohort, explored.model) if beside else None
    return ExplorerService(explored if real is None else measured_like(explored, real), real, sections, VisitorQueue())


def visiting(service: ExplorerService, **limits: Any) -> tuple[TestClient, str]:
    """A client of the explorer, and the path of its visit."""
    client = client_of(explorer(service, Address(), **{"rate": 10_000} | limits).guarded)
    return client, client.get("/").url.path


def pictures(page: str, label: str = "Generated tile") -> list[str]:
    """The addresses of the tiles of a page that are called so, in order."""
    tags = re.findall(r"<img [^>]+>", page)
    return [found[1] for tag in tags if f'alt="{label}' in tag and (found := PICTURE.search(tag))]
