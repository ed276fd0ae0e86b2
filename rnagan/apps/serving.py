"""Prepare a folder of tiles, open its database, and serve the quiz or the study."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rnagan.apps.answers_database import ANSWERS, AnswersDatabase, database_url
from rnagan.apps.quiz import check_quiz, quiz
from rnagan.apps.reader_scores import REAL
from rnagan.apps.reader_study import MAX_NAME, StudySettings, invite, reader_study
from rnagan.apps.shell import Address, serve
from rnagan.apps.study_answers import study_answers
from rnagan.apps.tile_set import RECORD, TileSet, open_tile_set, remove_other_tiles, write_tile_set
from rnagan.apps.tile_sources import (
    ChosenTile,
    Wanted,
    check_fair,
    choose_tiles,
    curated_tiles,
    parse_source,
    rule_of,
    what_it_holds,
)
from rnagan.io.cells import safe_table
from rnagan.io.files import write_text
from rnagan.io.provenance import asked
from rnagan.io.tables import read_table
from rnagan.reports.pages import embedded, write_template
from rnagan.runtime.progress import say

INVITATIONS, FORM, SERVED = "invitations.csv", "form.html", "served.txt"
Sources = tuple[str, ...]  # NAME=PATH each


def prepare(
    out: Path, sources: Sources, curated: Path | None, wanted: Wanted, explain: bool, replace: bool = False
) -> TileSet:
    """The tiles of a folder: made where there are none, opened where they were made of the same request, or where
    nothing is asked for. `explain`: measure what gives generated tiles away. `replace`: tiles of another request, which
    were never served, are made anew. Raises as `choose_tiles`."""
    if not sources and curated is None:
        if not (out / RECORD).is_file():
            raise ValueError(f"{out} holds no tiles yet; give --source NAME=PATH twice or more, or --curated.")
        return open_tile_set(out)
    if sources and curated is not None:
        raise ValueError("Give --source or --curated: the table of a curated choice names its own tiles.")
    parsed = [parse_source(source) for source in sources]
    request = asked(
        code=False,
        sources=[[name, what_it_holds(path)] for name, path in parsed],
        curated=curated,
        explain=explain,
        **{field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted) if field.name != "device"},
    )
    if replace and not any((out / name).is_file() for name in (ANSWERS, INVITATIONS, SERVED)):
        remove_other_tiles(out, request)
    if not (out / RECORD).is_file():
        chosen = curated_tiles(curated, wanted.tile_px) if curated is not None else choose_tiles(parsed, wanted)
        check_fair(chosen)
        write_tile_set(out, chosen, _tell_tales(chosen, explain), rule_of(wanted, curated), request)
        say(f"{out}: {len(chosen):,} tiles of {len({tile.source for tile in chosen}):,} sources.")
    return open_tile_set(out, request)


def _tell_tales(chosen: list[ChosenTile], explain: bool) -> list[str]:
    """A sentence for each generated tile; real ones of its tissue are compared, all where those are few."""
    if not explain:
        return [""] * len(chosen)
    from rnagan.apps.tell_tales import measure_tile, tell_tale  # with PyTorch, which a server doesn't need

    measured = [measure_tile(tile.pixels) for tile in chosen]
    real = [(tile.tissue, own) for tile, own in zip(chosen, measured, strict=True) if tile.source == REAL]

    def sentences() -> Iterator[str]:
        for tile, own in zip(chosen, measured, strict=True):
            near = [each for tissue, each in real if tissue == tile.tissue]
            every = [each for _, each in real]
            yield "" if tile.source == REAL else tell_tale(own, near) or tell_tale(own, every)

    return list(sentences())


def serve_quiz(tiles: TileSet, out: Path, database: str | None, rounds: int, address: Address) -> None:
    """Serve the quiz until it is stopped."""
    check_quiz(tiles, rounds)
    answers = AnswersDatabase(database_url(out, database))
    answers.belong_to(tiles.digest, "quiz")
    _mark_served(out)
    say(f"The quiz is at {address.url}/ (Ctrl-C stops it).")
    serve(quiz(tiles, answers, rounds, address), address)


def serve_study(
    tiles: TileSet, out: Path, database: str | None, settings: StudySettings, names: list[str], address: Address
) -> None:
    """Invite readers of these names, whose links are added to `out/invitations.csv`, and serve the study."""
    settings.check(tiles)
    answers = AnswersDatabase(database_url(out, database))
    asked_so = {name: getattr(settings, name) for name in ("lowest", "highest", "repeats", "seed")}
    answers.belong_to(tiles.digest, "reader study", asked_so)
    _mark_served(out)
    if names:
        paths = invite(answers, tiles, settings, names)
        _write_invitations(out / INVITATIONS, names, [address.url + path for path in paths])
        say(f"{len(names):,} links are in {out / INVITATIONS}. Who has a link answers for its reader.")
    own = address.with_token()
    if own is not address:
        say(f"Progress: {address.url}/admin, any user name, password {own.admin_token}")
    say(f"The study is at {address.url}/r/… (Ctrl-C stops it).")
    serve(reader_study(tiles, answers, settings, own), own)


def _mark_served(out: Path) -> None:
    """From now on the tiles of a folder stay, wherever its answers are kept."""
    write_text(out / SERVED, "Tiles of this folder were shown; they stay.\n")


def reader_names(count: int, table: Path | None) -> list[str]:
    """Names of new readers: `reader 1` …, or the column reader of a table."""
    if table is None:
        return [f"reader {number}" for number in range(1, count + 1)]
    rows = read_table(table)
    if "reader" not in rows or not len(rows):
        raise ValueError(f"{table} needs a column reader with a name in each row.")
    long = [name for name in rows["reader"] if not 0 < len(name) <= MAX_NAME]
    if long:
        raise ValueError(f"{table} has the reader {long[0][:20]!r}; a name has 1 to {MAX_NAME} characters.")
    return rows["reader"].tolist()


def write_form(out: Path, tiles: TileSet, settings: StudySettings) -> Path:
    """`out/form.html`: the form with one tile of the study, as figure S2 of the article shows its own."""
    settings.check(tiles)
    first = tiles.tiles[min(tiles.tiles)]
    picture = out / "tiles" / f"{first.id}.png"
    write_template(
        out / FORM,
        "reader_form.html",
        title=settings.title,
        lead=f"The form of figure S2, on one of {len(tiles.tiles)} tiles. {tiles.rule}",
        tissues=tiles.tissues,
        study=settings,
        pictures=embedded([(picture, "The tile of stained tissue that the questions are about.")]),
    )
    return out / FORM


def answers_of(folder: Path, database: str | None) -> tuple[pd.DataFrame, TileSet]:
    """The answers of a study's folder, and its tiles."""
    tiles = open_tile_set(folder)
    url = database_url(folder, database)
    if database is None and not (folder / ANSWERS).is_file():
        raise FileNotFoundError(f"{folder} holds no answers yet; serve the study with rnagan serve-reader-study.")
    answers = AnswersDatabase(url)
    answers.belong_to(tiles.digest, "reader study")
    return study_answers(answers, tiles), tiles


def _write_invitations(path: Path, names: list[str], links: list[str]) -> None:
    """Add links to a table that only its owner can read."""
    made = pd.DataFrame({"reader": names, "link": links})
    if path.is_file():
        made = pd.concat([read_table(path, ["reader", "link"]), made])
    before = os.umask(0o077)
    try:
        write_text(path, safe_table(made).to_csv(index=False))
    finally:
        os.umask(before)
