"""A whole simulated cohort on disk: slides, expression, attributes, and the truth beside them."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

import rnagan
from rnagan.config.base import load_config, resolve
from rnagan.config.simulation import SimulationConfig
from rnagan.io.files import atomic_path, read_json, write_json
from rnagan.runtime import progress, rng
from rnagan.runtime.workers import Workers, run_each
from rnagan.simulation.donors import draw_cohort
from rnagan.simulation.expression import (
    gene_names,
    programme_loadings,
    simulate_tpm,
    write_attributes,
    write_gct,
    write_subjects,
)
from rnagan.simulation.rendering import SLIDE_MPP, Morphology, render_slide
from rnagan.simulation.sections import draw_sections, draw_spots, layout_of, morphology_of, write_sections
from rnagan.simulation.svs import write_svs
from rnagan.simulation.tissues import TISSUES


class Simulated(TypedDict):
    """The simulation.json of a cohort."""

    config: dict[str, Any]


def simulate_cohort(config: SimulationConfig, out: Path, processes: int = 2) -> str:
    """Write a cohort folder, and return a line that says what it holds. The bytes depend on the config alone.

    With `sections` it holds sections with spots: `sections.csv` (section, donor, tissue, site, and the paths of counts
    and slide), the counts in `sections/`, the slides, and the truth of each spot.

    A slide that is there is kept, so a run that was stopped goes on; a folder of other settings is refused.
    `simulation.json` is written last.
    """
    if _settings_of(out) not in (None, config):
        raise ValueError(f"{out} holds a cohort with other settings; choose another --out or delete it.")
    if (out / "simulation.json").is_file():
        return f"{out} is up to date."
    config.save(out / "config.yaml")
    if config.sections:
        return _simulate_sections(config, out, processes)
    truth = draw_cohort(config)
    pictured = truth[truth["has_slide"]]
    _render(config, out, pictured, processes)
    write_gct(out / "expression.gct.gz", simulate_tpm(config, truth), truth["sample"].tolist(), *gene_names(config))
    write_attributes(out / "sample_attributes.tsv", truth)
    write_subjects(out / "subjects.tsv", config, truth)
    _write_csv(out / "slides.csv", pictured[["slide", "donor", "tissue", "site"]])
    _write_csv(out / "truth.csv", truth)
    _write_csv(out / "programmes.csv", programme_loadings(config, truth))
    write_json(
        out / "simulation.json",
        {"rnagan": rnagan.__version__, "config": config.to_dict(), "samples": len(truth), "slides": len(pictured)},
    )
    return f"{out}: {len(truth):,} profiles × {config.genes:,} genes, {len(pictured):,} slides."


def _simulate_sections(config: SimulationConfig, out: Path, processes: int) -> str:
    sections = draw_sections(config)
    truth = draw_spots(config, sections)
    _render(config, out, sections, processes)
    write_sections(config, out, sections, truth)
    named = sections.rename(columns={"slide": "section"})[["section", "donor", "tissue", "site"]]
    files = {"path": [f"sections/{name}.h5ad" for name in named["section"]]}
    files |= {"image": [f"slides/{name}.svs" for name in named["section"]]}
    _write_csv(out / "sections.csv", named.assign(**files))
    _write_csv(out / "truth.csv", truth)
    _write_csv(out / "programmes.csv", programme_loadings(config, truth))
    write_json(
        out / "simulation.json",
        {"rnagan": rnagan.__version__, "config": config.to_dict(), "samples": len(truth), "slides": len(sections)},
    )
    each = len(truth) // len(sections)
    return f"{out}: {len(sections):,} sections of {each:,} spots × {config.genes:,} genes, each with its slide."


def _render(config: SimulationConfig, out: Path, slides: pd.DataFrame, processes: int) -> None:
    """Write the slides that aren't there."""
    missing = [row for row in slides.to_dict("records") if not _slide_path(out, row).is_file()]
    render = functools.partial(write_slide, config, out)
    with progress.bar(len(missing), "slide", "Rendering slides") as bar:
        for _, outcome in run_each(render, missing, Workers(processes)):
            if isinstance(outcome, Exception):
                raise outcome
            bar.update()


def write_slide(config: SimulationConfig, out: Path, row: dict[str, Any]) -> None:
    """Render and write one slide of the truth table, or of the sections."""
    layout = layout_of(config)
    if config.sections:
        morphology = morphology_of(config, row)
    else:
        morphology = Morphology(**{field.name: row[field.name] for field in dataclasses.fields(Morphology)})
    random = rng.generator(config.seed, f"simulation/slide/{row['slide']}")
    write_svs(_slide_path(out, row), render_slide(TISSUES[row["tissue"]], morphology, layout, random), SLIDE_MPP)


def _settings_of(out: Path) -> SimulationConfig | None:
    """The settings of the cohort in a folder, finished or begun."""
    if (path := out / "simulation.json").is_file():
        try:
            return resolve(SimulationConfig, read_json(path, Simulated)["config"])
        except ValueError as error:
            raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None
    return load_config(SimulationConfig, out / "config.yaml") if (out / "config.yaml").is_file() else None


def _slide_path(out: Path, row: dict[str, Any]) -> Path:
    return out / "slides" / f"{row['slide']}.svs"


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
