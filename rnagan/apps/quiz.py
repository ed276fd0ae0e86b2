"""The quiz: is a tile real or generated? Ten rounds, a score, and what gave the tiles away."""

import datetime
import secrets
from typing import Any

from fastapi import HTTPException
from fastapi.responses import Response

from rnagan.apps.answers_database import Answer, AnswersDatabase, Reader, Showing
from rnagan.apps.reader_scores import REAL
from rnagan.apps.shell import Address, Form, Shell, page, png, reader_of_link, see
from rnagan.apps.tile_set import ServedTile, TileSet

MAX_GAMES = 200_000
_IDLE = datetime.timedelta(days=1)
_EACH = 200  # games after which idle ones are looked for
SAID = (REAL, "generated")


def check_quiz(tiles: TileSet, rounds: int) -> None:
    """`ValueError` where there are too few tiles of either kind: a coin decides which comes, so all may be of one."""
    real = sum(tile.source == REAL for tile in tiles.tiles.values())
    for count, what in ((real, f"real tiles (--source {REAL}=…)"), (len(tiles.tiles) - real, "generated tiles")):
        if count < rounds:
            raise ValueError(f"{rounds} rounds need {rounds} {what}, and {count} are there; change --each or --rounds.")


def quiz(tiles: TileSet, database: AnswersDatabase, rounds: int, address: Address, **limits: Any) -> Shell:
    """The application. A game is a secret link; each round has a random name of its own, so no address says which tile
    it is, and a coin decides of which kind. `limits`: as `Shell` takes them."""
    shell = Shell(address, private=("q",), **limits)
    app = shell.app
    by_kind: list[list[str]] = [[], []]
    tissues: list[set[str]] = [set(), set()]
    for tile in tiles.tiles.values():
        by_kind[tile.source == REAL].append(tile.id)
        tissues[tile.source == REAL].add(tile.tissue)
    alike = tissues[0] == tissues[1]  # else whether a tissue is named, and which, would give the answer away

    @app.get("/")
    def start() -> Response:
        return page("quiz_start.html", title="Real or generated?", rounds=rounds)

    @app.post("/games")
    def new_game() -> Response:
        count = database.count_readers()
        if count and count % _EACH == 0:
            database.remove_idle(datetime.datetime.now(datetime.UTC) - _IDLE)
        if count >= MAX_GAMES:
            raise HTTPException(503, "The quiz has had all the games that it can keep.")
        return see(f"/q/{database.add_reader('player', draw_game(by_kind, rounds))}")

    @app.get("/q/{token}")
    def current(token: str) -> Response:
        game = reader_of_link(database, token)
        following, done, there = database.next_showing(game.id)
        if following is None:
            shown = [_outcome(showing, tiles) for showing in database.showings_of(game.id)]
            right = sum(row["right"] for row in shown)
            return page("quiz_end.html", title="Your score", token=token, rows=shown, right=right, rounds=there)
        tissue = tiles.tiles[following.tile].tissue if alike else ""
        return page(
            "quiz_round.html",
            title=f"Tile {done + 1} of {there}",
            token=token,
            showing=following,
            number=done + 1,
            rounds=there,
            tissue=tissue,
            px=tiles.tile_px,
        )

    @app.get("/q/{token}/tiles/{name}.png")
    def picture(token: str, name: str) -> Response:
        return png(tiles.tiles[_reached(reader_of_link(database, token), name).tile].png)

    @app.post("/q/{token}/answers/{name}")
    def answer(token: str, name: str, form: Form) -> Response:
        game = reader_of_link(database, token)
        if form.get("said") not in SAID:
            raise HTTPException(400, "Say real or generated.")
        showing = _reached(game, name)
        database.answer(game.id, name, Answer(form["said"]))
        return see(f"/q/{token}/answered/{showing.position + 1}")

    @app.get("/q/{token}/answered/{number}")
    def answered(token: str, number: str) -> Response:
        game = reader_of_link(database, token)
        there = database.showings_of(game.id)
        position = int(number) - 1 if number.isascii() and number.isdigit() and len(number) < 5 else -1
        if not 0 <= position < len(there) or there[position].answered_at is None:
            raise HTTPException(404)
        row = _outcome(there[position], tiles)
        right = sum(_outcome(showing, tiles)["right"] for showing in there if showing.answered_at)
        done = sum(showing.answered_at is not None for showing in there)
        return page(
            "quiz_answered.html",
            title="Right" if row["right"] else "Wrong",
            token=token,
            row=row,
            number=position + 1,
            rounds=len(there),
            right=right,
            done=done,
            px=tiles.tile_px,
        )

    def _reached(game: Reader, name: str) -> Showing:
        """A round of the game that was answered or is the next one; 404 else, as of one that isn't there."""
        showing = database.showing(game.id, name)
        _, done, _ = database.next_showing(game.id)
        if showing is None or showing.position > done:
            raise HTTPException(404)
        return showing

    return shell


def draw_game(by_kind: list[list[str]], rounds: int) -> list[tuple[str, int]]:
    """Tiles of a game: each round a coin says of which kind, and then any tile of it that hasn't come yet."""
    random = secrets.SystemRandom()
    left = [random.sample(names, rounds) for names in by_kind]
    return [(left[random.getrandbits(1)].pop(), 1) for _ in range(rounds)]


def _outcome(showing: Showing, tiles: TileSet) -> dict:
    """A round that was answered, for its page."""
    tile: ServedTile = tiles.tiles[showing.tile]
    is_real = tile.source == REAL
    right = (showing.called == REAL) == is_real
    return {
        "name": showing.id,
        "number": showing.position + 1,
        "right": right,
        "said": showing.called,
        "is": REAL if is_real else "generated",
        "source": tile.source,
        "tell_tale": "" if is_real else tile.tell_tale,
    }
