"""Readers, what is shown to them and what they answer, in any database that SQLAlchemy knows; SQLite by default.

An answer is one UPDATE, committed to the disk before it is acknowledged. Tokens are kept as SHA-256 alone: who reads
the database can't answer for a reader.
"""

import contextlib
import datetime
import hashlib
import secrets
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

ANSWERS = "answers.sqlite"  # in the folder of a quiz or study
TOKEN_BYTES = 24  # of a reader's link: 192 random bits
_BUSY_SECONDS = 30
_POOL = 16

metadata = sa.MetaData()
about = sa.Table("about", metadata, sa.Column("name", sa.String(40), primary_key=True), sa.Column("value", sa.Text))
readers = sa.Table(
    "readers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("made_at", sa.String(40), nullable=False),
)
# A showing of a tile to a reader (of a study or a quiz); its answer, once there is one, never changes.
showings = sa.Table(
    "showings",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # what the reader's page knows of it
    sa.Column("reader", sa.ForeignKey("readers.id"), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("tile", sa.String(64), nullable=False),
    sa.Column("showing", sa.Integer, nullable=False),
    sa.Column("called", sa.String(100)),
    sa.Column("quality", sa.Integer),
    sa.Column("artefact", sa.Integer),
    sa.Column("text", sa.Text),
    sa.Column("answered_at", sa.String(40)),
    sa.UniqueConstraint("reader", "position"),
)


class Reader(NamedTuple):
    """A reader, or a player of the quiz."""

    id: int
    name: str


class Showing(NamedTuple):
    """A tile in a reader's order, at `position` (from 0); `showing` 2: for the second time. `called` … `text`: the
    answer, None before there is one (`answered_at`)."""

    id: str
    reader: int
    position: int
    tile: str
    showing: int
    called: str | None
    quality: int | None
    artefact: int | None
    text: str | None
    answered_at: str | None


class Answer(NamedTuple):
    """What a reader says of a tile."""

    called: str
    quality: int | None = None
    artefact: bool | None = None
    text: str = ""


class AnswersDatabase:
    """Open (and make) the tables at an SQLAlchemy URL. Raises `ValueError` where that can't be."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise ValueError("--database is no URL that SQLAlchemy reads, such as sqlite:///answers.sqlite.") from None
        self.address = parsed.render_as_string(hide_password=True)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        settings: dict[str, Any] = {"pool_pre_ping": not self._is_sqlite}
        if self._is_sqlite:
            settings["connect_args"] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
        settings |= {"pool_size": _POOL, "max_overflow": 2 * _POOL}
        try:
            self._engine = sa.create_engine(parsed, **settings)
            if self._is_sqlite:
                sa.event.listen(self._engine, "connect", _make_durable)
            metadata.create_all(self._engine)
        except ModuleNotFoundError as error:
            raise ValueError(f"{self.address} needs the package {error.name}; install it.") from None
        except (sa.exc.SQLAlchemyError, TypeError) as error:
            raise ValueError(f"The database {self.address} can't be used ({type(error).__name__}).") from None
        # SQLite has one writer at a time: threads wait here, since its own waiting sleeps too long
        self._writing = threading.Lock()

    @contextlib.contextmanager
    def _writes(self) -> Iterator[sa.Connection]:
        with self._writing if self._is_sqlite else contextlib.nullcontext():
            with self._engine.begin() as connection:
                yield connection

    def close(self) -> None:
        """Give connections back."""
        self._engine.dispose()

    def belong_to(self, tiles: str, what: str, settings: Mapping[str, int] | None = None) -> None:
        """Say once which tiles (a digest) and which use (`what`) the answers are of, and by which settings they are
        asked for; `ValueError` where others are. Without `settings` none are compared."""
        own = {"tiles": tiles, "what": what} | {name: str(value) for name, value in (settings or {}).items()}
        with self._writes() as connection:
            there = {row.name: row.value for row in connection.execute(sa.select(about))}
            if not there:
                connection.execute(sa.insert(about), [{"name": name, "value": value} for name, value in own.items()])
                return
        if any(there.get(name) != own[name] for name in ("tiles", "what")):
            raise ValueError(f"The database {self.address} holds answers of other tiles; give it another name.")
        if other := [name for name in settings or {} if there.get(name, own[name]) != own[name]]:
            began = " ".join(f"--{name} {there[name]}" for name in other)
            raise ValueError(f"The answers in {self.address} began with other settings; give {began} again.")

    def add_reader(self, name: str, order: list[tuple[str, int]]) -> str:
        """Add a reader to whom (tile, showing) come in this order; returns the token of the reader's link."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._writes() as connection:
            made = sa.insert(readers).values(token_sha256=_hash(token), name=name, made_at=_now())
            reader = connection.execute(made.returning(readers.c.id)).scalar_one()
            rows = [
                {"id": secrets.token_hex(16), "reader": reader, "position": k, "tile": tile, "showing": showing}
                for k, (tile, showing) in enumerate(order)
            ]
            connection.execute(sa.insert(showings), rows)
        return token

    def reader(self, token: str) -> Reader | None:
        """Whose link a token is."""
        asked = sa.select(readers.c.id, readers.c.name).where(readers.c.token_sha256 == _hash(token))
        with self._engine.connect() as connection:
            row = connection.execute(asked).first()
        return None if row is None else Reader(*row)

    def all_readers(self) -> list[Reader]:
        """All readers, in the order in which they were added."""
        with self._engine.connect() as connection:
            return [Reader(*row) for row in connection.execute(sa.select(readers.c.id, readers.c.name).order_by("id"))]

    def showings_of(self, reader: int) -> list[Showing]:
        """A reader's tiles, in order."""
        asked = sa.select(showings).where(showings.c.reader == reader).order_by(showings.c.position)
        with self._engine.connect() as connection:
            return [Showing(*row) for row in connection.execute(asked)]

    def next_showing(self, reader: int) -> tuple[Showing | None, int, int]:
        """The first tile without an answer (None: all have one), how many have one, and how many there are."""
        counts = sa.select(sa.func.count(showings.c.answered_at), sa.func.count()).where(showings.c.reader == reader)
        open_ones = showings.c.answered_at.is_(None)
        first = sa.select(showings).where(showings.c.reader == reader, open_ones).order_by("position").limit(1)
        with self._engine.connect() as connection:
            done, there = connection.execute(counts).one()
            row = connection.execute(first).first()
        return (None if row is None else Showing(*row)), done, there

    def showing(self, reader: int, name: str) -> Showing | None:
        """A reader's tile by its id."""
        asked = sa.select(showings).where(showings.c.reader == reader, showings.c.id == name)
        with self._engine.connect() as connection:
            row = connection.execute(asked).first()
        return None if row is None else Showing(*row)

    def answer(self, reader: int, name: str, answer: Answer) -> bool:
        """Keep an answer, for good once this returns; False where there was one already, which stays."""
        artefact = None if answer.artefact is None else int(answer.artefact)
        mine = (showings.c.reader == reader, showings.c.id == name, showings.c.answered_at.is_(None))
        change = sa.update(showings).where(*mine)
        values = {"called": answer.called, "quality": answer.quality, "artefact": artefact, "text": answer.text}
        with self._writes() as connection:
            return connection.execute(change.values(**values, answered_at=_now())).rowcount == 1

    def progress(self) -> list[tuple[str, int, int]]:
        """Name, answers and tiles of each reader."""
        count = (sa.func.count(showings.c.answered_at), sa.func.count(showings.c.id))
        asked = sa.select(readers.c.name, *count).outerjoin(showings).group_by(readers.c.id, readers.c.name)
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(asked.order_by(readers.c.id))]

    def answers(self) -> list[tuple[Reader, Showing]]:
        """Every answer, by reader and position."""
        asked = sa.select(readers.c.id, readers.c.name, showings).join(showings)
        asked = asked.where(showings.c.answered_at.is_not(None)).order_by(readers.c.id, showings.c.position)
        with self._engine.connect() as connection:
            return [(Reader(*row[:2]), Showing(*row[2:])) for row in connection.execute(asked)]

    def remove_idle(self, before: datetime.datetime) -> None:
        """Forget readers who were made before a time and have answered nothing: quizzes that nobody played."""
        played = sa.select(showings.c.reader).where(showings.c.answered_at.is_not(None))
        idle = sa.select(readers.c.id).where(readers.c.made_at < before.isoformat(), readers.c.id.not_in(played))
        with self._writes() as connection:
            connection.execute(sa.delete(showings).where(showings.c.reader.in_(idle)))
            without = readers.c.id.not_in(sa.select(showings.c.reader))
            connection.execute(sa.delete(readers).where(readers.c.made_at < before.isoformat(), without))

    def count_readers(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(readers)).scalar_one()


def database_url(folder: Path, given: str | None) -> str:
    """The URL of a folder's own SQLite file, unless one is given."""
    return given or f"sqlite:///{(folder / ANSWERS).resolve()}"


def _make_durable(connection: Any, _record: Any) -> None:
    """A commit of SQLite is on the disk when it returns; readers don't wait for the writer."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()
