"""Donors that a model has seen, without their names: a model may be given away."""

from collections.abc import Iterable

from rnagan.files import sha256_of


def donor_digest(donor: str) -> str:
    """What a model says of a donor instead of the name: 16 hex digits."""
    return sha256_of(donor)[:16]


def seen_donors(donors: Iterable[str], digests: Iterable[str]) -> list[str]:
    """Those of the donors that a model's digests name, each once."""
    known = set(digests)
    return [donor for donor in dict.fromkeys(donors) if donor_digest(donor) in known]
