"""Rounds on one slide."""

from typing import Any

from shared.contenders import Contender
from shared.race import Answer, Entry, Outcome, race

Request = dict[str, Any]


def race_on_slide(
    entries: list[Entry], contenders: dict[str, Contender], request: Request, warm_up_tiles: int
) -> Outcome:
    """All rounds on one slide. A first run of each on a few tiles, where it takes a list of them, isn't counted."""

    def ask(entry: Entry) -> Answer:
        return contenders[entry.worker].ask(request | {"option": entry.option})

    def warm_up(entry: Entry) -> None:
        if entry.worker not in (
            "rnagan",
            "published",
        ):  # these two take no list; they are warm anyhow
            tiles = request["tiles"] if entry.worker == "codec" else request["tiles"][:warm_up_tiles]
            contenders[entry.worker].ask(request | {"option": entry.option, "tiles": tiles})

    return race(entries, ask, warm_up)
