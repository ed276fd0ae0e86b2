"""The explorer's map of a section: choose a spot, and see it and what lies around it, real and generated."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response

from rnagan.apps.explored_sections import Section
from rnagan.apps.explorer_answers import ExplorerService, View
from rnagan.apps.explorer_visits import ExplorerQuery, Visit
from rnagan.apps.measure_plots import measure_plots
from rnagan.apps.shell import page
from rnagan.cohort.table import claim_of

VisitOf = Callable[[Request], Visit]
QueryOf = Callable[[Request, Visit, str], ExplorerQuery]


def add_section_pages(app: FastAPI, service: ExplorerService, visit_of: VisitOf, asked_of: QueryOf) -> None:
    """Add the pages under /e/{token}/section to the explorer, whose `service` has sections."""
    explored, sections = service.explored, service.sections
    assert sections is not None
    split = explored.profiles.obs["split"].to_numpy()
    own = next((own for own in sections.all if (split[own.numbers] == "test").any()), sections.all[0])
    first = str(own.middle)

    def asked_and_section(request: Request, visit: Visit) -> tuple[ExplorerQuery, Section]:
        asked = asked_of(request, visit, first)
        try:
            return asked, sections.of(asked.profile)
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None

    async def viewed(visit: Visit, asked: ExplorerQuery, section: Section, around: bool) -> View:
        try:
            return await service.view(visit, asked, section, around)
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None

    def of_view(visit: Visit, asked: ExplorerQuery, view: View) -> dict[str, Any]:
        shown = explored.shown(int(asked.profile))
        return {
            "token": visit.token,
            "asked": asked,
            "shown": shown,
            "view": view,
            "strongest": explored.strongest(shown.values),
            "plots": measure_plots(view.measures, view.real.measures, None, 0.0, None),
            "side": explored.model.config.resolution,
        }

    @app.get("/e/{token}/section")
    async def section_map(request: Request) -> Response:
        visit = visit_of(request)
        asked, section = asked_and_section(request, visit)
        view = await viewed(visit, asked, section, around=True)
        slider, claim = service.slider(asked), claim_of(explored.model.split_by)
        levels = None if slider is None else explored.levels(section.numbers, slider)
        obs = explored.profiles.obs
        return page(
            "explorer_section.html",
            title="Section map",
            section=section,
            others=[(str(own.middle), own.name) for own in sections.all],
            dots=section.dots(levels),
            names={int(number): str(obs.index[number]) for number in section.numbers},
            slider=slider,
            sliders=explored.sliders(),
            takes_genes=explored.vae is not None,
            claim="" if claim is None else claim.sentence,
            **of_view(visit, asked, view),
        )

    @app.get("/e/{token}/section/answer")
    async def around(request: Request) -> Response:
        visit = visit_of(request)
        asked, section = asked_and_section(request, visit)
        return page("section_answer.html", **of_view(visit, asked, await viewed(visit, asked, section, around=True)))

    @app.get("/e/{token}/section/spot")
    async def spot(request: Request) -> Response:
        visit = visit_of(request)
        asked, section = asked_and_section(request, visit)
        return page("section_spot.html", **of_view(visit, asked, await viewed(visit, asked, section, around=False)))
