"""The list of damaged tiles that neighbours stood in for, kept in the run's folder: a file for each process."""

import json
from collections.abc import Iterable
from pathlib import Path

from rnagan.data.loader import Replaced
from rnagan.io.files import write_text

_NAME = "corrupt_tiles.{}.jsonl"


class CorruptTiles:
    """Appends to `corrupt_tiles.RANK.jsonl` of a run: image number, slide, tile and what is wrong with it.

    `count`: tiles replaced since this process started, counting one again whenever it was asked for again.
    """

    def __init__(self, run: Path, rank: int) -> None:
        self.path, self.count = Path(run) / _NAME.format(rank), 0

    def add(self, replaced: Iterable[Replaced]) -> None:
        """Note the replaced tiles of a batch."""
        lines = "".join(json.dumps(one._asdict()) + "\n" for one in replaced)
        if lines:
            self.count += lines.count("\n")
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(lines)


def cut_back(run: Path, images: int) -> None:
    """Take what comes after `images` images out of the lists of all processes: it will come again."""
    for path in Path(run).glob(_NAME.format("*")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["number"] < images]
        write_text(path, "".join(kept))
