"""The quiz: played to its end, and attacked for its answers."""

import re
from pathlib import Path

import pytest

from rnagan.apps.answers_database import AnswersDatabase
from rnagan.apps.guard import HEADERS
from rnagan.apps.quiz import check_quiz, draw_game, quiz
from rnagan.apps.shell import Address
from tests.apps.made_study import client, form_of, game, make_tiles, picture_of


def test_a_game_is_played_to_its_score(tmp_path: Path) -> None:
    client, tiles, database = game(tmp_path)
    page = client.post("/games", data={}).text
    right = 0
    for number in range(1, 6):
        assert f"Tile {number} of 5" in page
        png = client.get(picture_of(page)).content
        (shown,) = [tile for tile in tiles.tiles.values() if tile.png == png]
        answered = client.post(form_of(page), data={"said": "real"})
        right += shown.source == "real"
        said = re.search(r'role="status" class="(\w+)"', answered.text)
        assert said is not None and said[1] == ("right" if shown.source == "real" else "wrong")
        assert ("Fine detail is weaker." in answered.text) == (shown.source != "real")
        assert f"{right} right of {number} so far" in answered.text
        page = client.get(f"/q/{str(answered.url).split('/q/')[1].split('/')[0]}").text
    assert f"{right} of 5 right." in page and page.count("<li>") == 5
    assert len(database.answers()) == 5


def test_a_coin_says_what_comes_and_no_tile_comes_twice() -> None:
    kinds = [[f"g{k}" for k in range(20)], [f"r{k}" for k in range(20)]]
    games = [draw_game(kinds, 10) for _ in range(200)]
    assert all(len(set(order)) == 10 for order in games)
    counts = {sum(name.startswith("r") for name, _ in order) for order in games}
    assert len(counts) > 3  # never always five and five: the last would be known
    share = sum(name.startswith("r") for order in games for name, _ in order) / 2000
    assert 0.44 < share < 0.56


def test_too_few_tiles_for_a_coin_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="7 rounds need 7 real tiles"):
        check_quiz(make_tiles(tmp_path), 7)


@pytest.mark.attack(kind=10, ends="unharmed")
def test_nothing_but_pixels_says_what_a_tile_is(tmp_path: Path) -> None:
    """Names, addresses, lengths, headers and pages before the answer are alike for both kinds."""
    client, tiles, _ = game(tmp_path)
    seen: dict[bool, set] = {True: set(), False: set()}
    names: list[str] = []
    for _ in range(8):
        page = client.post("/games", data={}).text
        address = picture_of(page)
        answer = client.get(address)
        source = next(tile.source for tile in tiles.tiles.values() if tile.png == answer.content)
        names.append(address.rpartition("/")[2])
        alike = re.sub(r"[0-9a-f]{32}|/q/[\w-]{32}", "*", page).replace("brain cortex", "lung")
        seen[source == "real"].add((len(answer.content), tuple(sorted(answer.headers.items())), alike))
    assert len(set(names)) == len(names) and not {name[:-4] for name in names} & tiles.tiles.keys()
    assert len(set.union(*seen.values())) == 1
    for word in ("GAN", *(tile.origin for tile in tiles.tiles.values())):
        assert word not in page


@pytest.mark.attack(kind=10, ends="unharmed")
def test_a_tissue_that_one_kind_alone_has_is_not_named(tmp_path: Path) -> None:
    tiles = make_tiles(tmp_path)
    for name, tile in tiles.tiles.items():  # as tiles of rnagan generate-tiles, which name no tissue
        if tile.source != "real":
            tiles.tiles[name] = tile._replace(tissue="")
    database = AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")
    player = client(quiz(tiles, database, 5, Address(), rate=10_000).guarded)
    pages = [player.post("/games", data={}).text for _ in range(8)]
    assert not any("lung" in page or "brain" in page or "Tissue:" in page for page in pages)


@pytest.mark.attack(kind=10, ends="unharmed")
def test_coming_rounds_are_not_served_before_their_turn(tmp_path: Path) -> None:
    client, _, database = game(tmp_path)
    first = client.post("/games", data={})
    token = str(first.url).rpartition("/")[2]
    player = database.reader(token)
    assert player is not None
    later = database.showings_of(player.id)[3]
    assert client.get(f"/q/{token}/tiles/{later.id}.png").status_code == 404
    assert client.post(f"/q/{token}/answers/{later.id}", data={"said": "real"}).status_code == 404
    for number in ("1", "4", "0", "-1", "x", "9" * 400, "²"):
        assert client.get(f"/q/{token}/answered/{number}").status_code in (404, 414), number


@pytest.mark.attack(kind=10, ends="unharmed")
def test_an_answer_stays_as_it_was_first_given(tmp_path: Path) -> None:
    client, _, database = game(tmp_path)
    page = client.post("/games", data={}).text
    client.post(form_of(page), data={"said": "real"})
    client.post(form_of(page), data={"said": "generated"})
    ((_, kept),) = database.answers()
    assert kept.called == "real"


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize("said", [{}, {"said": "maybe"}, {"said": "<script>"}, {"said": ["real", "real"]}])
def test_a_wrong_answer_is_refused_in_one_sentence(tmp_path: Path, said: dict) -> None:
    client, _, database = game(tmp_path)
    answer = client.post(form_of(client.post("/games", data={}).text), data=said)
    assert answer.status_code == (415 if not said else 400) and 'role="alert"' in answer.text
    assert database.answers() == [] and "<script>" not in answer.text


def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    client, _, _ = game(tmp_path)
    page = client.post("/games", data={}).text
    for address in ("/", picture_of(page), "/static/style.css", "/nowhere", "/static/../quiz.py"):
        answer = client.get(address)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, address
    assert "script-src 'self'" in HEADERS["Content-Security-Policy"]
    assert not re.search(r"<script(?! src=\"/static/)|style=|onclick|https?://", page)
