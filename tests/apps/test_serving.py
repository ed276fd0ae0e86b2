"""The commands up to where they would listen: tiles prepared, opened and refused; the form; a study's analysis."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rnagan.apps.answers_database import Answer, AnswersDatabase, database_url
from rnagan.apps.reader_study import StudySettings, invite
from rnagan.apps.tile_set import open_tile_set
from rnagan.commands.main import main
from tests.apps.made_study import SIDE, write_images


def command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [word for source in write_images(tmp_path / "images") for word in ("--source", source)]


def prepare(sources: list[str], out: Path, *more: object) -> Result:
    given = (*sources, "--out", out, "--tile-px", SIDE, "--prepare-only", *more)
    return command("serve-reader-study", *given)


def test_a_study_is_prepared_once_and_shows_its_form(sources: list[str], tmp_path: Path) -> None:
    done = prepare(sources, tmp_path / "study")
    assert done.exit_code == 0 and "form.html" in done.output, done.output
    form = (tmp_path / "study/form.html").read_text()
    assert form.count("<img") == 1 and "brain cortex / lung" in form and "from 1 (very bad) to 5 (very good)" in form
    first = open_tile_set(tmp_path / "study")
    assert len(first.tiles) == 18 and first.rule.endswith("with seed 0, 3 of each.")
    assert prepare(sources, tmp_path / "study").exit_code == 0
    assert open_tile_set(tmp_path / "study").digest == first.digest
    assert prepare(sources, tmp_path / "study", "--each", 2).exit_code == 0  # nobody has seen the first ones
    assert len(open_tile_set(tmp_path / "study").tiles) == 12


@pytest.mark.slow
@pytest.mark.guard
def test_tiles_that_were_answered_stay(sources: list[str], tmp_path: Path) -> None:
    prepare(sources, tmp_path / "study")
    tiles = open_tile_set(tmp_path / "study")
    database = AnswersDatabase(database_url(tmp_path / "study", None))
    database.belong_to(tiles.digest, "reader study")
    for name in ("=a", "b"):
        invite(database, tiles, StudySettings(), [name])
    for reader in database.all_readers():
        for k, showing in enumerate(database.showings_of(reader.id)):
            tissue = tiles.tiles[showing.tile].tissue
            database.answer(reader.id, showing.id, Answer(tissue, 1 + (k + reader.id) % 5, k % 2 == 0, "=1+1"))
    again = prepare(sources, tmp_path / "study", "--each", 2)
    assert again.exit_code == 1 and "other sources or settings" in again.output
    done = command("analyse-reader-study", "--study", tmp_path / "study", "--out", tmp_path / "analysis")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "analysis/result.json").read_text())
    assert result["readers"] == 2 and result["answers"] == 42 and result["notes"] == [tiles.rule]
    right = [row["mean"] for row in result["summary"] if row["measure"] == "right"]
    assert right == [1.0] * 6
    assert [row["pairs"] for row in result["own_agreement"] if row["reader"] == ""] == [6, 6, 6]
    other = command("serve-quiz", "--out", tmp_path / "study", "--rounds", 5)
    assert other.exit_code == 1 and "holds answers of other tiles" in other.output


def test_a_quiz_is_prepared_with_its_tell_tales(sources: list[str], tmp_path: Path) -> None:
    words = ("--out", tmp_path / "quiz", "--tile-px", SIDE, "--prepare-only", "--each", 3, "--rounds", 5)
    assert command("serve-quiz", *sources, *words).exit_code == 0
    tiles = open_tile_set(tmp_path / "quiz").tiles.values()
    assert all(bool(tile.tell_tale) == (tile.source != "real") for tile in tiles)
    few = command("serve-quiz", *sources, *words, "--rounds", 9)
    assert few.exit_code == 1 and "9 rounds need 9 real tiles" in few.output


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "holds no tiles yet"),
        (("--host", "0.0.0.0"), "lets other machines in"),
        (("--host", "0.0.0.0", "--admin-token", "short"), "16 are needed"),
        (("--source", "real"), "NAME=PATH"),
        (("--source", "real={here}", "--curated", "t.csv"), "--source or --curated"),
        (("--source", "real={here}"), "holds no image"),
        (("--readers-table", "nowhere.csv"), "nowhere.csv"),
        (("--repeats", "-1"), "--repeats"),
        (("--port", "99999"), "--port"),
    ],
)
def test_a_mistake_costs_one_sentence(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    given = [word.format(here=tmp_path / "here") for word in words]
    done = command("serve-reader-study", "--out", tmp_path / "out", *given)
    last = done.output.strip().splitlines()[-1]
    assert done.exit_code > 0 and last.startswith("Error: ") and said in last
