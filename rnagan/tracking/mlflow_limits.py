"""Names, texts and batches as MLflow takes them. What is cut here is whole in the folder of the run."""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

NAME_LENGTH = 250  # of parameters, metrics, tags and runs, in every version of MLflow
# What MLflow takes, by its own names; the figures are for a version that doesn't say it.
_BOUNDS = {
    "MAX_PARAM_VAL_LENGTH": 6000,
    "MAX_TAG_VAL_LENGTH": 5000,
    "MAX_PARAMS_TAGS_PER_BATCH": 100,
    "MAX_METRICS_PER_BATCH": 1000,
    "MAX_BATCH_LOG_REQUEST_SIZE": 1_000_000,  # bytes
}


def bound(name: str) -> int:
    """What the installed MLflow takes, by a name of `_BOUNDS`."""
    from mlflow.utils import validation

    return int(getattr(validation, name, _BOUNDS[name]))


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


def allowed_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Names and texts of tags as MLflow takes them."""
    longest = bound("MAX_TAG_VAL_LENGTH")
    return {allowed_name(name): allowed_text(str(value), longest) for name, value in tags.items()}


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
