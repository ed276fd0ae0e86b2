"""Donors that a model has seen, without their names: a model may be given away."""

from collections.abc import Iterable

from rnagan.io.files import sha256_of
from rnagan.io.tables import first_few


def donor_digest(donor: str) -> str:
    """What a model says of a donor instead of the name: 16 hex digits."""
    return sha256_of(donor)[:16]


def seen_donors(donors: Iterable[str], digests: Iterable[str]) -> list[str]:
    """Those of the donors that a model's digests name, each once."""
    known = set(digests)
    return [donor for donor in dict.fromkeys(donors) if donor_digest(donor) in known]


def refuse_seen(donors: Iterable[str], digests: Iterable[str], split: str, model: str, instead: str) -> None:
    """Raise `ValueError` where donors of a held-out split were trained on. `model`: how to call it; `instead`: what
    to give."""
    if seen := seen_donors(donors, digests):
        raise ValueError(
            f"{len(seen)} donors of split {split} ({first_few(seen)}) were in the training split of {model}; give "
            f"{instead}, or one that extends it."
        )
