"""Names and texts as MLflow takes them. What is cut here is whole in the folder of the run."""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

NAME_LENGTH = 250  # of parameters, metrics, tags and runs, in every version of MLflow


def allowed_name(name: str) -> str:
    """A name of a metric or a parameter as MLflow takes it: letters, digits and `_-. :/`, a path in its normal form.

    A comma before a space, as in "accuracy, lung", becomes a slash.
    """
    path = re.sub(r"[^\w\-. :/]", "_", name.replace(", ", "/"))
    whole = posixpath.normpath(path.replace("..", "__").strip("/"))
    return posixpath.normpath(whole[:NAME_LENGTH])


def allowed_text(text: str, longest: int) -> str:
    """A text of `longest` signs at most; one that was cut ends in …"""
    return text if len(text) <= longest else f"{text[: longest - 2]} …"


def batches(entities: Iterable[Any], most: int, room: int) -> Iterator[list[Any]]:
    """MLflow's entities in their order, up to `most` at once and up to `room` bytes of JSON."""
    batch: list[Any] = []
    size = 0
    for entity in entities:
        own = len(json.dumps([entity.key, entity.value]))
        if batch and (len(batch) == most or size + own > room):
            yield batch
            batch, size = [], 0
        batch.append(entity)
        size += own
    if batch:
        yield batch
