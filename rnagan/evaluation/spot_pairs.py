"""What `rnagan evaluate-faithfulness` says of spots: evidence on real pairs, its pictures, its figures by name."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from rnagan.evaluation.features import make_extractor, witness_of
from rnagan.evaluation.proportions import read_proportions
from rnagan.evaluation.spatial_evidence import spatial_evidence
from rnagan.evaluation.spatial_measures import own_measures
from rnagan.evaluation.test_set import EvaluationSet
from rnagan.io.files import sha256_of_file
from rnagan.io.images import picture_name
from rnagan.reports.section_pictures import section_maps


@dataclasses.dataclass(frozen=True)
class SpotSettings:
    """How spots of sections are evaluated. `consecutive`: sections in the order in which they were cut; `extractor`:
    whose features tell tiles apart, by its name; where it is empty, an offline one that took no part in training.
    `measures`: further ones of tiles, module:function, or empty; `proportions`: a table of each spot's cell types, with
    which those are compared, or None."""

    consecutive: tuple[str, ...] = ()
    extractor: str = ""
    measures: str = ""
    proportions: Path | None = None

    def protocol(self) -> dict[str, Any]:
        """The settings for the record of an evaluation; the table by its digest."""
        own = dataclasses.asdict(dataclasses.replace(self, proportions=None))
        del own["proportions"]
        return own if self.proportions is None else own | {"proportions": sha256_of_file(self.proportions)}


PLAIN = SpotSettings()  # nothing asked for


class RealPairs(TypedDict):
    """`real_pairs` of an evaluation.json, as far as `flat_pairs` reads it."""

    sections: dict[str, dict[str, Any]]


def evaluate_spots(held_out: EvaluationSet, out: Path, n: int, seed: int, spots: SpotSettings) -> dict[str, Any]:
    """The evidence on real pairs, and the names of the `pictures` that are written into `out`."""
    named = spots.extractor or witness_of(held_out.model.config.backbone)
    extractor = make_extractor(named, device=held_out.model.device)
    further = own_measures(spots.measures) if spots.measures else None
    proportions = None if spots.proportions is None else read_proportions(spots.proportions)
    scores, maps = spatial_evidence(held_out, n, seed, extractor, spots.consecutive, further, proportions)
    taken: set[str] = set()
    scores["pictures"] = []
    for section, own in maps.items():
        name = f"spots_{picture_name(section, taken)}.png"
        section_maps(out / name, section, own.positions, own.real, own.generated)
        scores["pictures"].append(name)
    return scores


def flat_pairs(sections: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Figures by name: real_pairs/SECTION/MEASURE/r …, real_pairs/SECTION/place,
    real_pairs/SECTION/CELLS/proportion."""
    found: dict[str, dict[str, float]] = {}
    for section, scores in sections.items():
        for measure, score in scores["measures"].items():
            at = f"real_pairs/{section}/{measure}"
            found[f"{at}/r"] = {"value": score["r"], "low": score["low"], "high": score["high"]}
            found |= {f"{at}/{name}": {"value": score[name]} for name in ("slope", "p", "over_ridge")}
            found[f"{at}/ridge"] = {"value": score["ridge"]["r"]}
        for name, place in scores["place"].items():
            found[f"real_pairs/{section}/place" + ("" if name == "generated" else f"/{name}")] = dict(place)
        for cells, score in scores.get("proportions", {}).items():
            ends = {end: score[end] for end in ("low", "high")}
            found[f"real_pairs/{section}/{cells}/proportion"] = {"value": score["r"]} | ends
    return {name: score for name, score in found.items() if score["value"] is not None}
