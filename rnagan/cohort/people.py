"""Which person a sample's or slide's id names, where the id is of a project whose ids say so.

This is the one grammar of persons: the readers of GTEx and TCGA build theirs on it.
"""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from rnagan.io.codes import text_of
from rnagan.io.tables import first_few

SIGN = "[-._]"  # between the parts of an id: R writes dots for dashes, and names of slides have _ for dots
# By project, the part of an id that names the person, in any case.
PERSON = {
    "GTEx": rf"GTEX{SIGN}[A-Z0-9]+",
    "TCGA": rf"TCGA{SIGN}[A-Z0-9]{{2}}{SIGN}[A-Z0-9]{{4}}",
    "TARGET": rf"TARGET{SIGN}[0-9][0-9]{SIGN}[A-Z0-9]{{6}}",
    "CPTAC": rf"C3[LN]{SIGN}[0-9]{{5}}",
}
_RULES = {project: re.compile(rf"({rule})(?:{SIGN}.*)?", re.IGNORECASE) for project, rule in PERSON.items()}

_SIGNS = "(?i:GTEX|TCGA|TARGET|C3[LN])[-._]"


def person_of(text: str) -> tuple[str, str]:
    """The project and the person that an id names, such as GTEX-1117F, as `spelled`; ('', '') where it is none of these
    projects'."""
    for project, rule in _RULES.items():
        if match := rule.fullmatch(text.strip()):
            return project, spelled(match[1])
    return "", ""


def spelled(text: str) -> str:
    """An id of these projects in their own spelling: capitals and dashes."""
    return re.sub(SIGN, "-", text.upper())


def people(ids: pd.Series) -> pd.Series:
    """The person of each id, '' where it names none."""
    found = pd.Series("", ids.index, dtype=object)
    may = may_name_people(ids)
    found[may] = [person_of(text)[1] for text in ids[may]]
    return found


def may_name_people(ids: pd.Series) -> NDArray[np.bool_]:
    """Whether an id has the sign of one of these projects in it, (ids,): of millions, those that are worth a look."""
    return pc.match_substring_regex(text_of(ids), _SIGNS).fill_null(False).to_numpy()


def donors_of_ids(samples: pd.Series) -> pd.Series:
    """A donor for each sample: the person that its id names, else the sample itself."""
    named = people(samples)
    return named.where(named != "", samples)


def check_strangers(samples: pd.Series, path: object, notes: list[str], *, declared: bool) -> None:
    """Of samples whose donors come from their ids: count the projects, and refuse those of none beside others, which
    would each be a donor of their own, unless that was `declared`."""
    projects = [person_of(text)[0] for text in samples]
    counts = Counter(filter(None, projects))
    strangers = [text for text, project in zip(samples, projects, strict=True) if not project]
    if not counts:
        return
    if strangers and not declared:
        raise ValueError(
            f"{len(strangers):,} of {len(samples):,} samples of {path} ({first_few(strangers)}) have no id of "
            f"{' or '.join(counts)}, and no column says their donors: name one with --donor-column, leave them out, or "
            "say --source table, which makes each a donor of its own."
        )
    said = ", ".join(f"{count:,} of {project}" for project, count in counts.items())
    more = f", {len(strangers):,} of no project ({first_few(strangers)}), each a donor of its own" if strangers else ""
    notes.append(f"Donors are those that the samples' ids name: {said}{more}.")


def refuse_one_person_as_several(table: pd.DataFrame, name: object) -> None:
    """Refuse a table that gives one person, by the ids of samples or donors, different donors: they could land in
    several splits."""
    for column in ("sample", "donor"):
        named = people(table[column])
        donors = table.loc[named != "", "donor"].groupby(named[named != ""]).unique()
        several = donors[donors.map(len) > 1]
        if len(several):
            raise ValueError(
                f"{name} gives {len(several):,} people several donors: {several.index[0]}, as the ids say, is "
                f"{first_few(several.iloc[0])}; give a person one donor."
            )
