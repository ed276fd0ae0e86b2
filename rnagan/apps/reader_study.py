"""The reader study: the article's form (figure S2), blinded, on links that readers come back to; progress for an admin.

No page that a reader sees says that any tile was generated, nor where a tile is from.
"""

import dataclasses
from typing import Any

import numpy as np
from fastapi import HTTPException, Request
from fastapi.responses import Response

from rnagan.apps.answers_database import Answer, AnswersDatabase
from rnagan.apps.shell import Address, Form, Shell, page, png, reader_of_link, see
from rnagan.apps.study_answers import answers_csv
from rnagan.apps.tile_set import TileSet
from rnagan.runtime import rng

MAX_TEXT = 1000  # characters about artefacts
MAX_NAME = 60  # of a reader
MAX_NEW_READERS = 100  # at once
MAX_READERS = 5_000
LATE = 0.75  # of a reader's order; second showings come after it


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """`title` of its pages. Quality goes from `lowest` to `highest` in whole steps. `repeats`: tiles that each reader
    sees twice. `seed` of the order of tiles."""

    title: str = "Tile study"
    lowest: int = 1
    highest: int = 5
    repeats: int = 3
    seed: int = 0

    def check(self, tiles: TileSet) -> None:
        """`ValueError` where they don't fit the tiles."""
        if not 0 <= self.lowest < self.highest <= 10:
            raise ValueError(f"The scale must rise within 0 to 10, and {self.lowest} to {self.highest} doesn't.")
        if not 0 <= self.repeats <= len(tiles.tiles) // 2:
            raise ValueError(f"{self.repeats} of {len(tiles.tiles)} tiles can't be shown twice; half can (--repeats).")
        if len(self.title) > MAX_NAME:
            raise ValueError(f"The title has {len(self.title)} characters, and {MAX_NAME} are shown.")

    @property
    def scale(self) -> range:
        return range(self.lowest, self.highest + 1)


def reader_order(tiles: list[str], repeats: int, seed: int, reader: int) -> list[tuple[str, int]]:
    """The (tile, showing) of reader number `reader`: all tiles in random order, then `repeats` of the first half once
    more, scattered over what comes after LATE of the order."""
    draw = rng.generator(seed, "order of a reader", reader)
    order = [(tile, 1) for tile in draw.permutation(np.array(sorted(tiles), object)).tolist()]
    again = draw.permutation(np.array([tile for tile, _ in order[: len(order) // 2]], object))[:repeats].tolist()
    first = int(np.ceil(LATE * len(order)))
    for tile in again:
        order.insert(int(draw.integers(first, len(order) + 1)), (tile, 2))
    return order


def invite(database: AnswersDatabase, tiles: TileSet, settings: StudySettings, names: list[str]) -> list[str]:
    """Add readers; the path of each one's link. `ValueError` where there would be too many."""
    there = database.count_readers()
    if there + len(names) > MAX_READERS:
        raise ValueError(f"A study has {MAX_READERS:,} readers at most.")
    orders = [reader_order(list(tiles.tiles), settings.repeats, settings.seed, there + k) for k in range(len(names))]
    return [f"/r/{database.add_reader(name, order)}" for name, order in zip(names, orders, strict=True)]


def reader_study(
    tiles: TileSet, database: AnswersDatabase, settings: StudySettings, address: Address, **limits: Any
) -> Shell:
    """The application: readers at /r/…, the admin at /admin. `limits`: as `Shell` takes them."""
    shell = Shell(address, private=("r",), **limits)
    app = shell.app
    shared: dict[str, Any] = {"study": settings, "tissues": tiles.tissues, "px": tiles.tile_px, "max_text": MAX_TEXT}

    @app.get("/")
    def outside() -> Response:
        said = "Open the link that you were sent; it brings you to your own place."
        return page("message.html", title=settings.title, said=said)

    @app.get("/r/{token}")
    def start(token: str) -> Response:
        following, done, there = database.next_showing(reader_of_link(database, token).id)
        template = "study_start.html" if following is not None else "study_end.html"
        return page(template, title=settings.title, token=token, done=done, there=there, **shared)

    @app.get("/r/{token}/next")
    def following(token: str) -> Response:
        reader = reader_of_link(database, token)
        showing, done, there = database.next_showing(reader.id)
        if showing is None:
            return see(f"/r/{token}")
        given: dict[str, str] = {}
        about: dict[str, Any] = {"token": token, "showing": showing, "done": done, "there": there}
        return page("study_tile.html", title=f"Tile {done + 1} of {there}", given=given, problem="", **about, **shared)

    @app.get("/r/{token}/tiles/{name}.png")
    def picture(token: str, name: str) -> Response:
        reader = reader_of_link(database, token)
        showing = database.showing(reader.id, name)
        if showing is None:
            raise HTTPException(404)
        return png(tiles.tiles[showing.tile].png)

    @app.post("/r/{token}/answers/{name}")
    def answer(token: str, name: str, form: Form) -> Response:
        reader = reader_of_link(database, token)
        showing, (following, done, there) = database.showing(reader.id, name), database.next_showing(reader.id)
        if showing is None:
            raise HTTPException(404)
        if following is not None and showing.position > following.position:
            raise HTTPException(409, "This tile isn't yours to answer yet; go on with your next one.")
        try:
            found = read_answer(form, settings, tiles.tissues)
        except ValueError as problem:
            about: dict[str, Any] = {"token": token, "showing": showing, "done": done, "there": there, "given": form}
            title = f"Tile {showing.position + 1} of {there}"
            return page("study_tile.html", 422, title=title, **about, problem=str(problem), **shared)
        database.answer(reader.id, name, found)  # one that is there already stays: the button was pressed twice
        return see(f"/r/{token}/next")

    @app.get("/admin")
    def admin(request: Request) -> Response:
        shell.check_admin(request)
        return page("study_admin.html", title=f"{settings.title}: progress", rows=database.progress(), links=[])

    @app.post("/admin/readers")
    def new_readers(request: Request, form: Form) -> Response:
        shell.check_admin(request)
        names = [name.strip() for name in form.get("names", "").splitlines() if name.strip()]
        if not 0 < len(names) <= MAX_NEW_READERS or max(map(len, names)) > MAX_NAME:
            said = f"Write 1 to {MAX_NEW_READERS} names, one a line, of {MAX_NAME} characters at most."
            raise HTTPException(422, said)
        try:
            links = list(zip(names, invite(database, tiles, settings, names), strict=True))
        except ValueError as problem:
            raise HTTPException(422, str(problem)) from None
        title = f"{settings.title}: progress"
        return page("study_admin.html", title=title, rows=database.progress(), links=links)

    @app.get("/admin/answers.csv")
    def table(request: Request) -> Response:
        shell.check_admin(request)
        headers = {"Content-Disposition": 'attachment; filename="answers.csv"'}
        return Response(answers_csv(database, tiles), media_type="text/csv; charset=utf-8", headers=headers)

    return shell


def read_answer(form: dict[str, str], settings: StudySettings, tissues: list[str]) -> Answer:
    """The answer of a form; `ValueError`, a sentence for the reader, where it isn't whole."""
    called = form.get("called", "")
    if tissues and called not in tissues:
        raise ValueError("Please say which tissue it is (question 1).")
    quality = form.get("quality", "")
    if quality not in {str(step) for step in settings.scale}:
        raise ValueError("Please rate the morphological structures (question 2).")
    if form.get("artefact") not in ("yes", "no"):
        raise ValueError("Please say whether there are artefacts (question 3).")
    text = form.get("text", "").strip()
    if len(text) > MAX_TEXT:
        raise ValueError(f"Please shorten your words on artefacts to {MAX_TEXT:,} characters.")
    text = text.replace("\x00", "")  # which PostgreSQL doesn't keep
    return Answer(called if tissues else "", int(quality), form["artefact"] == "yes", text)
