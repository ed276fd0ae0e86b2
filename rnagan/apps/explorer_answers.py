"""What visitors of the explorer ask for, and the answers: through the queue, the latest kept for their downloads."""

import asyncio
import base64
import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnagan.apps.explored_model import TILES, Answer, ExploredModel, ExploredProfile, Slider
from rnagan.apps.explored_sections import Section, Sections
from rnagan.apps.explored_tiles import RealTiles
from rnagan.apps.explorer_visits import ExplorerQuery, Recent, Visit, shown_of
from rnagan.apps.uploaded_table import read_upload
from rnagan.apps.visitor_queue import Replaced, VisitorQueue
from rnagan.io.images import png_bytes
from rnagan.reports.section_pictures import GLASS, section_picture

MAX_KEPT_BYTES = 64 << 20  # of answers' tiles
MAX_CURVES = 300
MAX_TABLES = 20  # that wait
T = TypeVar("T")


class RealTilesBeside(NamedTuple):
    """Real tiles as addresses of pictures, the mean of each measure on them, their tissue, and of whom they are."""

    pictures: list[str]
    measures: dict[str, float]
    tissue: str
    of: str


class GeneratedAnswer(NamedTuple):
    """The answer to a visitor, its tiles as addresses of pictures, and real ones, where there are some."""

    answer: Answer
    pictures: list[str]
    beside: RealTilesBeside | None


class RealSpots(NamedTuple):
    """Real tiles as addresses of pictures, "" where there are none: of a spot, and of all that are in view; and the
    mean of each measure on these."""

    spot: str
    around: str
    measures: dict[str, float]


class View(NamedTuple):
    """A spot, and the part of its section around it: real, and generated as addresses of pictures, with the mean of
    each measure on all that are in view. `far`: how many of `spots` are unlike the training profiles."""

    real: RealSpots
    generated: str
    around: str
    measures: dict[str, float]
    far: int
    spots: int


class ExplorerService:
    """Answers visitors. All that the network does goes through the queue, in its one thread; tables are read in
    another, so that nobody waits for a stranger's."""

    def __init__(
        self, explored: ExploredModel, real: RealTiles | None, sections: Sections | None, queue: VisitorQueue
    ) -> None:
        self.explored, self.real, self.sections, self._queue = explored, real, sections, queue
        self._tables = VisitorQueue(MAX_TABLES)
        each = 2 * TILES * 3 * explored.model.config.resolution**2
        self._kept: Recent[tuple[str, ExplorerQuery], GeneratedAnswer] = Recent(max(2, MAX_KEPT_BYTES // each))
        self._besides: Recent[tuple[str, str], RealTilesBeside | None] = Recent(max(2, MAX_KEPT_BYTES // each))
        self._real_spots: Recent[tuple[int, ...], RealSpots] = Recent(MAX_KEPT_BYTES, _bytes_of)
        self._measuring: Recent[str, object] = Recent(MAX_CURVES)
        self._curves: Recent[tuple[str, ExplorerQuery], list[dict[str, float]]] = Recent(MAX_CURVES)

    async def done(self, visit: Visit, kind: str, job: Callable[[], T], soon: bool = True) -> T:
        """The result of a job of a visit; raises as it does, `Replaced` and `Full`."""
        return await asyncio.wrap_future(self._queue.submit(visit.token, kind, job, soon))

    async def answer(self, visit: Visit, asked: ExplorerQuery, kind: str = "answer") -> GeneratedAnswer:
        """Tiles of what is asked for, and real ones of the same tissue, where there are some."""
        key = visit.token, asked
        if (kept := self._kept.find(key)) is not None:
            return kept
        shown = shown_of(asked.profile, self.explored, visit)

        def made() -> GeneratedAnswer:
            answer = self.explored.answer(shown, self.slider(asked), asked.step, asked.seed)
            return GeneratedAnswer(answer, [picture(tile) for tile in answer.tiles], self._beside(shown))

        found = await self.done(visit, kind, made)
        self._kept.keep(key, found)
        return found

    async def curve(self, visit: Visit, asked: ExplorerQuery) -> list[dict[str, float]]:
        """The measures at each step of a slider. Each step is a job of its own, behind all answers, so that nobody
        waits for a curve."""
        if (kept := self.known_curve(visit, asked)) is not None:
            return kept
        shown, slider, mine = shown_of(asked.profile, self.explored, visit), self.slider(asked), object()
        assert slider is not None
        self._measuring.keep(visit.token, mine)

        def measured(step: float) -> dict[str, float]:
            return self.explored.answer(shown, slider, step, asked.seed).measures

        measures = []
        for step in slider.steps:
            if self._measuring.find(visit.token) is not mine:
                raise Replaced  # by a newer curve, which this one would put off
            measures.append(await self.done(visit, "curve", functools.partial(measured, step), soon=False))
        self._curves.keep((visit.token, asked._replace(step=0.0)), measures)
        return measures

    def known_curve(self, visit: Visit, asked: ExplorerQuery) -> list[dict[str, float]] | None:
        """The curve of what is asked for, where it was measured already."""
        return self._curves.find((visit.token, asked._replace(step=0.0)))

    async def view(self, visit: Visit, asked: ExplorerQuery, section: Section, around: bool) -> View:
        """The spot that is asked for, alone or with those `around` it, generated anew."""
        spots = section.around(int(asked.profile)) if around else [int(asked.profile)]
        kind = "view" if around else "spot"
        return await self.done(visit, kind, lambda: self._viewed(asked, section, spots))

    async def upload(self, visit: Visit, data: bytes, units: str) -> str:
        """Take the profiles of a table in place of a visit's earlier ones; the first one's `ExplorerQuery.profile`."""
        reading = self._tables.submit(visit.token, "upload", lambda: read_upload(data, units, self.explored))
        found = await asyncio.wrap_future(reading)
        visit.uploads.clear()
        visit.uploads.update((next(visit.numbers), shown) for shown in found)
        return f"u{min(visit.uploads)}"

    def slider(self, asked: ExplorerQuery) -> Slider | None:
        """What is moved, None where nothing is."""
        return self.explored.slider(asked.slider) if asked.slider else None

    def _viewed(self, asked: ExplorerQuery, section: Section, spots: list[int]) -> View:
        tiles, far = self.explored.answer_spots(spots, self.slider(asked), asked.step, asked.seed)
        real = self._real_spots.find(tuple(spots))
        if real is None:
            real = self._seen(section, spots)
            self._real_spots.keep(tuple(spots), real)
        around = _around(section, spots, tiles)
        return View(real, picture(tiles[0]), around, self.explored.measured(tiles), int(far.sum()), len(spots))

    def _seen(self, section: Section, spots: list[int]) -> RealSpots:
        names = [self.explored.shown(spot).name for spot in spots]
        real = {} if self.real is None else self.real.of_samples(names)
        if not real:
            return RealSpots("", "", {})
        own, there = real.get(names[0]), [number for number, name in enumerate(names) if name in real]
        tiles = np.stack([real[names[number]] for number in there])
        placed = np.full((len(spots), *tiles.shape[1:]), GLASS, np.uint8)
        placed[there] = tiles
        around = _around(section, spots, placed)
        return RealSpots("" if own is None else picture(own), around, self.explored.measured(tiles))

    def _beside(self, shown: ExploredProfile) -> RealTilesBeside | None:
        if self.real is None:
            return None
        tissue = shown.tissue or self.explored.nearest_tissue(shown.values)
        sample = "" if shown.uploaded else shown.name  # a name in a visitor's table is nobody's here
        kept = self._besides.find((sample, tissue))
        if kept is None and (real := self.real.of_profile(sample, shown.donor, tissue, TILES)) is not None:
            alike = "other donors" if shown.tissue else "the tissue that it is most like"
            of = "this profile's own tissue" if real.own else alike
            kept = RealTilesBeside(
                [picture(tile) for tile in real.tiles], self.explored.measured(real.tiles), real.tissue, of
            )
            self._besides.keep((sample, tissue), kept)
        return kept


def _around(section: Section, spots: list[int], tiles: NDArray[np.uint8]) -> str:
    """Tiles (spots, S, S, 3) at their places, as the address of a picture; "" of a spot alone."""
    if len(spots) < 2:
        return ""
    return picture(section_picture(section.positions_of(spots), tiles, section.pitch))


def _bytes_of(real: RealSpots) -> int:
    return len(real.spot) + len(real.around)


def picture(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as the address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()
