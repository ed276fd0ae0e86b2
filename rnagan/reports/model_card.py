"""The card of a model that is given away, as Markdown."""

from typing import Any, TypedDict

import jinja2

from rnagan.io.claim import Claim


class Figures(TypedDict):
    """The scores of an evaluation, by name {"value"} and perhaps "low" and "high"; `protocol`: its digest."""

    kind: str
    protocol: str
    scores: dict[str, Any]


def model_card(
    front: str,
    card: dict[str, str],
    record: dict[str, Any],
    settings: dict[str, Any],
    donors: int,
    claim: Claim | None,
    figures: list[Figures],
) -> str:
    """The Markdown of a card. `front`: its YAML; `card`: name, licence, data and use; `record`: of model.json;
    `donors`: how many were trained on."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("rnagan.reports"), autoescape=False)
    environment.filters["cell"] = _cell
    return environment.get_template("model_card.md").render(
        front=front,
        card={name: _line(text) for name, text in card.items()},
        record=record,
        settings=settings,
        donors=donors,
        claim=claim,
        figures=figures,
    )


def _line(text: Any) -> str:
    """Text of somebody else in Markdown: one paragraph, and no HTML."""
    return " ".join(str(text).split()).replace("<", "&lt;")


def _cell(text: Any) -> str:
    return _line(text).replace("|", "\\|")
