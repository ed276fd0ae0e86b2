"""The reader study: filled in, interrupted, resumed; blinded; its answers go to the analysis."""

import re
from pathlib import Path

import pytest

from rnagan.apps.answers_database import AnswersDatabase
from rnagan.apps.reader_scores import Scale, read_scores
from rnagan.apps.reader_study import StudySettings, reader_order
from rnagan.apps.study_answers import study_answers
from tests.apps.made_study import ADMIN, SECRET_WORDS, form_of, make_tiles, picture_of, study
from tests.apps.test_guard import basic

ANSWER = {"called": "lung", "quality": "4", "artefact": "no", "text": ""}


def test_a_study_is_filled_in_stopped_and_gone_on_with(tmp_path: Path) -> None:
    client, links, tiles = study(tmp_path)
    shown = []
    assert "0 of 20 answered" in client.get(links[0]).text
    for number in range(20):
        if number == 7:
            assert "7 of 20 answered" in client.get(links[0]).text
        page = client.get(f"{links[0]}/next").text
        assert f"Tile {number + 1} of 20" in page
        shown.append(client.get(picture_of(page)).content)
        client.post(form_of(page), data=ANSWER | {"quality": str(1 + number % 5)})
    assert "Thank you" in client.get(links[0]).text and "Thank you" in client.get(f"{links[0]}/next").text
    assert len(set(shown)) == 18 == len(tiles.tiles)
    table = study_answers(AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite"), tiles)
    assert len(table) == 20 and table["showing"].tolist().count(2) == 2
    assert table["quality"].tolist() == [1 + k % 5 for k in range(20)]
    assert table.groupby(["source", "tissue"])["tile"].nunique().tolist() == [3] * 6


def test_each_reader_has_an_order_of_their_own_and_late_repeats() -> None:
    tiles = [f"t{k}" for k in range(18)]
    orders = [reader_order(tiles, 3, 0, reader) for reader in range(30)]
    assert len({tuple(order) for order in orders}) == 30 and orders[0] == reader_order(tiles[::-1], 3, 0, 0)
    for order in orders:
        firsts = {tile: k for k, (tile, showing) in enumerate(order) if showing == 1}
        seconds = {tile: k for k, (tile, showing) in enumerate(order) if showing == 2}
        assert firsts.keys() == set(tiles) and len(seconds) == 3
        assert all(k - firsts[tile] > 4 for tile, k in seconds.items())
    first_places = [order[0][0] for order in orders]
    assert len(set(first_places)) > 10


@pytest.mark.attack(kind=10, ends="unharmed")
def test_no_page_of_a_reader_says_that_tiles_were_generated(tmp_path: Path) -> None:
    client, links, tiles = study(tmp_path)
    page = client.get(f"{links[0]}/next")
    picture = client.get(picture_of(page.text))
    texts = [client.get(links[0]).text, page.text, client.get("/").text, client.get("/static/keys.js").text]
    texts += [client.get("/static/style.css").text, str(page.headers), str(picture.headers)]
    texts.append(client.post(form_of(page.text), data={"called": "x"}).text)
    for text in texts:
        found = [word for word in SECRET_WORDS if word in text]
        assert not found, (found, text)
    assert not any(tile.id in text for tile in tiles.tiles.values() for text in texts)


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.attack(kind=10, ends="unharmed")
def test_a_repeat_can_not_be_told_by_its_address(tmp_path: Path) -> None:
    client, links, _ = study(tmp_path)
    names = []
    for _ in range(20):
        page = client.get(f"{links[0]}/next").text
        names.append(picture_of(page))
        client.post(form_of(page), data=ANSWER)
    assert len(set(names)) == 20


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"called": ""}, "question 1"),
        ({"called": "liver"}, "question 1"),
        ({"quality": "6"}, "question 2"),
        ({"quality": "4.5"}, "question 2"),
        ({"quality": "٤"}, "question 2"),
        ({"artefact": "maybe"}, "question 3"),
        ({"text": "x" * 1001}, "shorten"),
    ],
)
def test_an_answer_that_is_not_whole_is_asked_for_again(tmp_path: Path, change: dict[str, str], said: str) -> None:
    client, links, _ = study(tmp_path)
    action = form_of(client.get(f"{links[0]}/next").text)
    answer = client.post(action, data=ANSWER | change)
    assert answer.status_code == 422 and said in answer.text and 'role="alert"' in answer.text
    assert re.search(r'value="no"[^>]*checked', answer.text) or "artefact" in change  # what was chosen stays chosen
    assert "0 of 20 answered" in client.get(links[0]).text


@pytest.mark.attack(kind=10, ends="unharmed")
def test_readers_answer_for_themselves_alone_and_in_order(tmp_path: Path) -> None:
    client, links, _ = study(tmp_path, readers=2)
    page = client.get(f"{links[0]}/next").text
    stolen = form_of(page).replace(links[0], links[1])
    assert client.post(stolen, data=ANSWER).status_code == 404
    assert client.get(picture_of(page).replace(links[0], links[1])).status_code == 404
    database = AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")
    reader = database.all_readers()[0]
    later = database.showings_of(reader.id)[5]
    assert client.post(f"{links[0]}/answers/{later.id}", data=ANSWER).status_code == 409
    assert database.answers() == []


@pytest.mark.attack(kind=7, ends="unharmed")
def test_texts_and_names_of_strangers_are_escaped_everywhere(tmp_path: Path) -> None:
    client, links, _ = study(tmp_path)
    tag, formula = "<img src=x onerror=alert(1)>\x1b[2J", '=HYPERLINK("http://evil")'
    added = client.post("/admin/readers", data={"names": f"{tag[:28]}\n{formula}"}, headers=basic(ADMIN))
    assert added.status_code == 200 and "<img src=x" not in added.text and "&lt;img" in added.text
    page = client.get(f"{links[0]}/next").text
    wrong = client.post(form_of(page), data=ANSWER | {"quality": "", "text": f"</textarea>{tag}"})
    assert "</textarea><img" not in wrong.text and "&lt;/textarea&gt;" in wrong.text
    client.post(form_of(page), data=ANSWER | {"text": formula})
    link = re.findall(r"<code>(/r/[^<]+)</code>", added.text)[1]
    client.post(form_of(client.get(f"{link}/next").text), data=ANSWER | {"text": '@SUM(A1)\r\n+1,"x"'})
    csv = client.get("/admin/answers.csv", headers=basic(ADMIN))
    assert csv.headers["content-type"].startswith("text/csv")
    (tmp_path / "a.csv").write_text(csv.text)
    table = read_scores(tmp_path / "a.csv", Scale(1, 5))
    assert sorted(table["text"])[0] == formula and formula in table["reader"].tolist()
    assert f",'{formula[:5]}" in csv.text or f",\"'{formula[:5]}" in csv.text


def test_the_admin_sees_progress_and_adds_readers(tmp_path: Path) -> None:
    client, links, _ = study(tmp_path)
    client.post(form_of(client.get(f"{links[0]}/next").text), data=ANSWER)
    added = client.post("/admin/readers", data={"names": "Dr A\n\nDr B"}, headers=basic(ADMIN)).text
    assert added.count("/r/") == 2
    rows = re.findall(r"<td>([^<]+)</td><td>(\d+)</td><td>(\d+)</td>", client.get("/admin", headers=basic(ADMIN)).text)
    assert rows == [("reader 0", "1", "20"), ("Dr A", "0", "20"), ("Dr B", "0", "20")]
    for names in ("", "x" * 61, "\n".join(map(str, range(101)))):
        assert client.post("/admin/readers", data={"names": names}, headers=basic(ADMIN)).status_code == 422


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tiles = make_tiles(tmp_path)
    for settings, said in (
        (StudySettings(lowest=5, highest=5), "must rise"),
        (StudySettings(repeats=10), "can't be shown twice"),
        (StudySettings(title="x" * 61), "61 characters"),
    ):
        with pytest.raises(ValueError, match=said):
            settings.check(tiles)
