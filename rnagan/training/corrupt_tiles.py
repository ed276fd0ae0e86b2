"""Damaged tiles that a training met, as a list in its run folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from rnagan.data.reader import Replaced
from rnagan.io.files import write_text
from rnagan.io.json_values import json_of
from rnagan.runtime.distributed import processes

_CORRUPT = "corrupt_tiles.{}.jsonl"


class _Noted(TypedDict):
    number: int


class CorruptTiles:
    """Appends damaged tiles, for which a neighbour stood in, to `corrupt_tiles.RANK.jsonl` of a run: image number,
    slide, tile and what is wrong with it.

    `count`: tiles replaced since this process started, counting one again whenever it was asked for again.
    """

    def __init__(self, run: Path, rank: int) -> None:
        self.path, self.count = Path(run) / _CORRUPT.format(rank), 0
        self._damaged: set[tuple[str, int]] = set()  # slides and tiles, of all processes
        self._new: set[tuple[str, int]] = set()  # of this one, which the others don't know yet

    def add(self, replaced: Iterable[Replaced]) -> None:
        """Note the replaced tiles of a batch."""
        replaced = list(replaced)
        self._new |= {(one.slide, one.tile) for one in replaced}
        lines = "".join(json.dumps(one._asdict()) + "\n" for one in replaced)
        if lines:
            self.count += lines.count("\n")
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(lines)

    def of_all(self) -> set[tuple[str, int]]:
        """Slides and tiles that were damaged on any process since it started. Every process must call it."""
        new, self._new = self._new, set()
        self._damaged = self._damaged.union(*processes().each(lambda: new))
        return self._damaged


def cut_back(run: Path, images: int) -> None:
    """Take what comes after `images` images out of the lists of all processes: it will come again."""
    for path in Path(run).glob(_CORRUPT.format("*")):
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [line for line in lines if json_of(line, _Noted, path)["number"] < images]
        write_text(path, b"".join(kept).decode())
