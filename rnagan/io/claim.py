"""What is claimed by scores that are being written, so that each picture, table, page and record of them says it."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import pandas as pd


class Claim(NamedTuple):
    """What was held out: `split_by`; in a few words (`held_out`), and what scores therefore say (`sentence`)."""

    split_by: str
    held_out: str
    sentence: str

    def as_json(self) -> dict[str, str]:
        return {"split_by": self.split_by, "claim": self.sentence}


_CLAIM: ContextVar[Claim | None] = ContextVar("claim", default=None)


@contextlib.contextmanager
def stating(claim: Claim | None) -> Iterator[None]:
    """A block whose pictures (`save_figure`, `save_png`), tables (`with_claim`) and pages (`write_template`) state a
    claim; None, as of held-out donors, adds nothing."""
    token = _CLAIM.set(claim)
    try:
        yield
    finally:
        _CLAIM.reset(token)


def stated() -> Claim | None:
    """The claim of the block around, None where there is none."""
    return _CLAIM.get()


def with_claim(table: pd.DataFrame) -> pd.DataFrame:
    """The table, with a column `held_out` where a claim is stated."""
    claim = stated()
    return table if claim is None else table.assign(held_out=claim.held_out)
