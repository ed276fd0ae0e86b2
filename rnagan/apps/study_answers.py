"""The answers of a study as a table: for its analysis, and for the admin."""

import pandas as pd

from rnagan.apps.answers_database import AnswersDatabase
from rnagan.apps.reader_scores import COLUMNS, OPTIONAL, complete
from rnagan.apps.tile_set import TileSet
from rnagan.io.cells import safe_table


def study_answers(database: AnswersDatabase, tiles: TileSet) -> pd.DataFrame:
    """Every answer in the form of `reader_scores.read_scores`. Readers of one name are numbered."""
    names = [reader.name for reader in database.all_readers()]
    rows = []
    for reader, showing in database.answers():
        tile = tiles.tiles[showing.tile]
        name = reader.name if names.count(reader.name) == 1 else f"{reader.name} ({reader.id})"
        artefact = float("nan") if showing.artefact is None else float(showing.artefact)
        said = (showing.called or "", artefact, showing.text or "", showing.showing)
        rows.append((name, tile.source, tile.tissue, float(showing.quality or 0), tile.id, *said))
    return complete(pd.DataFrame(rows, columns=[*COLUMNS, *OPTIONAL]), database.address)


def answers_csv(database: AnswersDatabase, tiles: TileSet) -> str:
    """The answers as CSV, with cells that begin a formula made safe; `read_scores` reads it."""
    table = study_answers(database, tiles)
    table["artefact"] = table["artefact"].map({1.0: "yes", 0.0: "no"}).fillna("")
    return str(safe_table(table).to_csv(index=False))
