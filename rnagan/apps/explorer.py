"""The explorer: choose a profile, move a gene or a programme, and see the tiles that the model generates answer."""

import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from rnagan.apps.explored_model import TILES, ExploredModel
from rnagan.apps.explorer_answers import ExplorerService, GeneratedAnswer
from rnagan.apps.explorer_visits import ExplorerQuery, Visit, Visits, read_query, shown_of
from rnagan.apps.guard import HEADERS, MAX_BODY_BYTES, address_of
from rnagan.apps.limits import Buckets, Clock
from rnagan.apps.measure_plots import measure_plots
from rnagan.apps.section_pages import add_section_pages
from rnagan.apps.shell import RATE, Address, Shell, page, see
from rnagan.apps.tile_downloads import as_png, as_zip, provenance
from rnagan.apps.uploaded_table import MAX_BYTES
from rnagan.apps.visitor_queue import Full, Replaced
from rnagan.cohort.table import claim_of

LISTED = 300  # profiles of a tissue in the list
VISITORS = 10  # as fast as so many visits may all of an address ask together: behind a proxy all have the proxy's
POLICY = HEADERS["Content-Security-Policy"] + "; connect-src 'self'"
_NUMBER = re.compile(f"[1-{TILES}]")


def explorer(service: ExplorerService, address: Address, rate: float = RATE, clock: Clock = time.monotonic) -> Shell:
    """The application. A visit is a secret link, in memory alone; where there is an admin token, it opens one. `rate`,
    `clock`: as `Shell` takes them."""
    headers = {"Content-Security-Policy": POLICY}
    explored, visits = service.explored, Visits()

    def most_bytes(path: str) -> int:
        token, upload = path.removeprefix("/e/"), "/profiles"
        of_visit = path.endswith(upload) and visits.find(token.removesuffix(upload)) is not None
        return MAX_BYTES if of_visit else MAX_BODY_BYTES

    shell = Shell(address, ("e",), rate, clock, most_bytes, headers)
    app = shell.app
    opened = Buckets(rate=0.5, burst=60, clock=clock)
    of_address = Buckets(VISITORS * rate, clock=clock)
    first, listed, claim = first_profile(explored), profile_list(explored), claim_of(explored.model.split_by)
    numbers = {number for _, rows in listed for number, _ in rows}

    def visit_of(request: Request) -> Visit:
        visit = visits.find(request.path_params["token"])
        if visit is None:
            raise HTTPException(404)
        if not of_address.take(address_of(request.scope)):  # however many visits it has opened
            raise HTTPException(429)
        return visit

    def asked_of(request: Request, visit: Visit, otherwise: str = first) -> ExplorerQuery:
        try:
            return read_query(request.query_params, explored, visit, otherwise)
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None

    async def answered(visit: Visit, asked: ExplorerQuery, kind: str) -> GeneratedAnswer:
        try:
            return await service.answer(visit, asked, kind)
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None

    def of_answer(visit: Visit, asked: ExplorerQuery, found: GeneratedAnswer) -> dict[str, Any]:
        """What the template of an answer shows."""
        slider = service.slider(asked)
        curve = service.known_curve(visit, asked) if slider else None
        of_real = {} if found.beside is None else found.beside.measures
        return {
            "answer": found.answer,
            "tiles": found.pictures,
            "beside": found.beside,
            "plots": measure_plots(found.answer.measures, of_real, slider, asked.step, curve),
            "wants_curve": slider is not None and curve is None and explored.measures is not None,
        }

    def of_request(visit: Visit, asked: ExplorerQuery) -> dict[str, Any]:
        shown = shown_of(asked.profile, explored, visit)
        side = explored.model.config.resolution
        return {"token": visit.token, "asked": asked, "shown": shown, "slider": service.slider(asked), "side": side}

    @app.get("/")
    def start(request: Request) -> Response:
        if address.admin_token is not None:
            shell.check_admin(request)
        if not opened.take(address_of(request.scope)):
            raise HTTPException(429)
        return see(f"/e/{visits.open().token}")

    @app.get("/e/{token}")
    async def explore(request: Request) -> Response:
        visit = visit_of(request)
        asked = asked_of(request, visit)
        about, problem = of_request(visit, asked), ""
        try:
            about |= of_answer(visit, asked, await service.answer(visit, asked, "page"))
        except ValueError as error:
            problem = str(error)
        return page(
            "explorer.html",
            422 if problem else 200,
            title="Tissue explorer",
            problem=problem,
            sliders=explored.sliders(),
            strongest=explored.strongest(about["shown"].values),
            takes_genes=explored.vae is not None,
            takes_tables=explored.takes_tables,
            listed=listed,
            unlisted="" if about["shown"].uploaded or asked.profile in numbers else about["shown"].name,
            uploads=visit.uploads,
            has_sections=service.sections is not None,
            claim="" if claim is None else claim.sentence,
            **about,
        )

    @app.get("/e/{token}/answer")
    async def answer_alone(request: Request) -> Response:
        visit = visit_of(request)
        asked = asked_of(request, visit)
        found = await answered(visit, asked, "answer")
        return page("explorer_answer.html", **of_request(visit, asked), **of_answer(visit, asked, found))

    @app.get("/e/{token}/curve")
    async def curve(request: Request) -> Response:
        visit = visit_of(request)
        asked = asked_of(request, visit)
        if not asked.slider:
            raise HTTPException(422, "Choose what to move first.")
        try:
            await service.curve(visit, asked)
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None
        return Response(status_code=204)

    @app.get("/e/{token}/tiles/{number}.png")
    async def tile(number: str, request: Request) -> Response:
        visit = visit_of(request)
        asked = asked_of(request, visit)
        if not _NUMBER.fullmatch(number):
            raise HTTPException(404)
        answer = (await answered(visit, asked, f"tile {number}")).answer
        made_of = provenance(explored, shown_of(asked.profile, explored, visit), asked, answer)
        return as_png(answer.tiles[int(number) - 1], made_of, int(number))

    @app.get("/e/{token}/tiles.zip")
    async def all_tiles(request: Request) -> Response:
        visit = visit_of(request)
        asked = asked_of(request, visit)
        answer = (await answered(visit, asked, "zip")).answer
        made_of = provenance(explored, shown_of(asked.profile, explored, visit), asked, answer)
        return as_zip(answer.tiles, made_of)

    @app.post("/e/{token}/profiles")
    async def upload(request: Request) -> Response:
        visit = visit_of(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "text/csv":
            raise HTTPException(415, "A table is needed.")
        try:
            profile = await service.upload(visit, await request.body(), request.query_params.get("units", ""))
        except ValueError as problem:
            return JSONResponse({"said": str(problem)}, 422)
        return JSONResponse({"go": f"/e/{visit.token}?profile={profile}"})

    async def not_answered(_: Request, error: Exception) -> Response:
        if isinstance(error, Replaced):
            return page("message.html", 409, title="Replaced", said="A newer request took the place of this one.")
        return page("message.html", 503, title="Busy", said="Many people are using this page; wait a minute.")

    app.add_exception_handler(Replaced, not_answered)
    app.add_exception_handler(Full, not_answered)
    if service.sections is not None:
        add_section_pages(app, service, visit_of, asked_of)
    return shell


def first_profile(explored: ExploredModel) -> str:
    """The number of the profile that the page begins with: one that the model was not trained on, where there is."""
    tests = np.flatnonzero((explored.profiles.obs["split"] == "test").to_numpy())
    return str(int(tests[0]) if len(tests) else 0)


def profile_list(explored: ExploredModel) -> list[tuple[str, list[tuple[str, str]]]]:
    """Tissues, which say where not all of theirs are listed, each with (number, name) of up to LISTED profiles,
    held-out ones first."""
    obs = explored.profiles.obs
    known = {"test": "held out", "left_out": "held out"}

    def of_tissue(own: Any) -> Iterator[tuple[str, str]]:
        order = np.argsort(~own["split"].isin(known).to_numpy(), kind="stable")[:LISTED]
        for row in own.iloc[order].itertuples():
            split = known.get(row.split, row.split)
            yield str(row.place), f"{row.Index} ({split})" if split else str(row.Index)

    numbered = obs.assign(place=np.arange(len(obs)))
    return [(_label(str(tissue), len(own)), list(of_tissue(own))) for tissue, own in numbered.groupby("tissue")]


def _label(tissue: str, profiles: int) -> str:
    shown = f" ({LISTED:,} of {profiles:,})" if profiles > LISTED else ""
    return (tissue or "profiles") + shown
