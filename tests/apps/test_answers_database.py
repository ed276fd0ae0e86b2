"""Answers are kept for good: on SQLite and PostgreSQL, with many readers at once, and through kill -9."""

import datetime
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rnagan.apps.answers_database import Answer, AnswersDatabase
from tests.apps.made_study import SIDE, form_of, write_images
from tests.apps.running import postgres, serving

ORDER = [("a", 1), ("b", 1), ("a", 2)]


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.guard])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/answers.sqlite"
    return request.getfixturevalue("postgres_url")


def test_answers_are_there_when_the_database_is_opened_again(url: str) -> None:
    database = AnswersDatabase(url)
    token = database.add_reader("Dr Ä", ORDER)
    reader = database.reader(token)
    assert reader is not None and reader.name == "Dr Ä" and database.reader(token + "x") is None
    first, done, there = database.next_showing(reader.id)
    assert first is not None and (first.tile, done, there) == ("a", 0, 3)
    assert database.answer(reader.id, first.id, Answer("lung", 4, True, "é 漢 '; drop table readers; --"))
    database.close()
    again = AnswersDatabase(url)
    kept = [showing for own, showing in again.answers() if own.id == reader.id]
    assert [(k.called, k.quality, k.artefact, k.text) for k in kept] == [
        ("lung", 4, 1, "é 漢 '; drop table readers; --")
    ]
    following, done, _ = again.next_showing(reader.id)
    assert following is not None and (following.tile, done) == ("b", 1)
    assert ("Dr Ä", 1, 3) in again.progress()


def test_of_two_answers_at_once_one_stays(url: str) -> None:
    database = AnswersDatabase(url)
    reader = database.reader(database.add_reader("a", ORDER))
    assert reader is not None
    showing = database.showings_of(reader.id)[0]
    start = threading.Barrier(8)

    def answer(quality: int) -> bool:
        start.wait()
        return database.answer(reader.id, showing.id, Answer("lung", quality))

    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(answer, range(8)))
    assert kept.count(True) == 1
    stored = database.showing(reader.id, showing.id)
    assert stored is not None and stored.quality == kept.index(True)


def test_many_readers_write_at_once(url: str) -> None:
    database = AnswersDatabase(url)

    def fill(number: int) -> int:
        reader = database.reader(database.add_reader(f"many {number}", ORDER))
        assert reader is not None
        return sum(database.answer(reader.id, each.id, Answer("", 1)) for each in database.showings_of(reader.id))

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(fill, range(24))) == [3] * 24
    assert sum(reader.name.startswith("many") for reader, _ in database.answers()) == 72


def test_only_games_that_nobody_played_are_forgotten(tmp_path: Path) -> None:
    database = AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")
    played, idle = (database.reader(database.add_reader("player", ORDER)) for _ in range(2))
    assert played is not None and idle is not None
    database.answer(played.id, database.showings_of(played.id)[0].id, Answer("real"))
    database.remove_idle(datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1))
    assert database.count_readers() == 2
    database.remove_idle(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))
    assert [reader.id for reader in database.all_readers()] == [played.id]


@pytest.mark.attack(kind=3)
def test_a_database_of_other_tiles_is_refused(tmp_path: Path) -> None:
    database = AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")
    database.belong_to("digest", "quiz")
    database.belong_to("digest", "quiz")
    for tiles, what in (("other", "quiz"), ("digest", "reader study")):
        with pytest.raises(ValueError, match="holds answers of other tiles"):
            database.belong_to(tiles, what)


def test_a_study_goes_on_with_the_settings_that_it_began_with(tmp_path: Path) -> None:
    database = AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")
    database.belong_to("digest", "reader study", {"lowest": 0, "highest": 10})
    database.belong_to("digest", "reader study", {"lowest": 0, "highest": 10})
    database.belong_to("digest", "reader study")  # the analysis asks for nothing
    with pytest.raises(ValueError, match="began with other settings; give --highest 10 again"):
        database.belong_to("digest", "reader study", {"lowest": 0, "highest": 5})


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        "sqlite:////nowhere/there/a.sqlite",
        "oracle://u:secret@h/d",
        "nosuch://u:secret@h",
        "mysql://u:secret@h",
    ],
)
def test_a_database_that_can_not_be_used_costs_one_sentence_without_its_password(given: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        AnswersDatabase(given)
    assert "secret" not in str(caught.value)


@pytest.mark.attack(kind=3)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_text("no database at all " * 100)
    with pytest.raises(ValueError, match="can't be used"):
        AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")


@pytest.mark.attack(kind=10, ends="unharmed")
def test_who_reads_the_database_has_no_links(tmp_path: Path) -> None:
    database = AnswersDatabase(f"sqlite:///{tmp_path}/answers.sqlite")
    token = database.add_reader("a", ORDER)
    assert len(token) >= 32
    assert not [path for path in tmp_path.iterdir() if token.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(900)
@pytest.mark.attack(kind=6, ends="unharmed")
@pytest.mark.parametrize("of", ["sqlite", "postgresql"])
def test_kill_9_loses_no_acknowledged_answer(tmp_path: Path, of: str, request: pytest.FixtureRequest) -> None:
    """Six readers answer while the server is killed again and again; each goes on with the same link."""
    sources = write_images(tmp_path / "images", each=2)
    options = [word for source in sources for word in ("--source", source)]
    options += ["--out", tmp_path / "study", "--each", 2, "--tile-px", SIDE, "--repeats", 0]
    if of == "postgresql":
        options += ["--database", request.getfixturevalue("postgres_url")]
    acknowledged: dict[str, str] = {}
    with serving("serve-reader-study", *options, "--readers", 6) as server:
        links = (tmp_path / "study/invitations.csv").read_text().split()[1:]
        paths = [re.sub(r"^.*?://[^/]+", "", link.split(",")[-1]) for link in links]
    quality = 0
    for _ in range(3):
        with serving("serve-reader-study", *options) as server, ThreadPoolExecutor(7) as threads:
            ended = threading.Event()

            def play(path: str, url: str, ended: threading.Event) -> None:
                nonlocal quality
                with httpx.Client(base_url=url, follow_redirects=False) as client:
                    while not ended.is_set():
                        try:
                            page = client.get(f"{path}/next")
                            if page.status_code != 200:
                                return
                            action = form_of(page.text)
                            quality += 1
                            said = {"called": "lung", "quality": str(1 + quality % 5), "artefact": "no"}
                            if client.post(action, data=said).status_code == 303:
                                acknowledged.setdefault(action.rpartition("/")[2], said["quality"])
                        except httpx.HTTPError:
                            return

            games = [threads.submit(play, path, server.url, ended) for path in paths]
            while len(acknowledged) < 20 and not all(game.done() for game in games):
                ended.wait(0.01)
            server.kill()
            ended.set()
            for game in games:
                game.result()
    stored_at = options[-1] if of == "postgresql" else f"sqlite:///{tmp_path}/study/answers.sqlite"
    stored = {showing.id: str(showing.quality) for _, showing in AnswersDatabase(str(stored_at)).answers()}
    assert len(acknowledged) > 10 and acknowledged.items() <= stored.items()
