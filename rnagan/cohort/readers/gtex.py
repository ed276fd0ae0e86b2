"""What GTEx's ids say: `GTEX-11GSP-0725` is tissue site 07 of donor GTEX-11GSP.

The first two digits of the third field are the tissue site; the last two differ between the piece that was fixed and
sectioned (25) and the one that gave RNA (26), which lie side by side (Carithers et al. 2015, Biopreservation and
Biobanking 13:311, "Tissue procurement"). Two kinds of code are none of a site:
- 00xx: blood, cultured cells, and 0011-R…, regions of the half of the brain that the brain bank froze; no slide is cut.
- 50xx: a running number over a donor's later pieces (GTEX-145ME-5001 is lung, GTEX-145ME-5005 oesophagus), so only the
  whole code is one piece.
"""

import pandas as pd

from rnagan.cohort.people import PERSON, SIGN, spelled
from rnagan.io.tables import first_few

PLACE = "tissue site"
_ID = rf"(?i)^({PERSON['GTEx']}){SIGN}([0-9]{{4}})(?![0-9])"
_RNA = rf"(?i){SIGN}SM{SIGN}"


def is_id(ids: pd.Series) -> pd.Series:
    """Which ids are GTEx's, of a slide or of a sample."""
    return ids.str.extract(_ID)[0].notna()


def prepare_samples(samples: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Samples with the donor and `place` that their ids say; `unpictured` are those that no slide was cut from.

    They are sorted by name: of several at one site the first is preferred.
    """
    known = is_id(samples["sample"])
    if not known.all():
        names = first_few(samples.loc[~known, "sample"])
        notes.append(f"{(~known).sum():,} samples left out: no GTEx id ({names}).")
    samples = samples[known].assign(**_donor_and_place(samples.loc[known, "sample"]))
    samples["unpictured"] = samples["place"] == ""
    if samples["unpictured"].any():
        names = first_few(samples.loc[samples["unpictured"], "sample"])
        notes.append(
            f"{samples['unpictured'].sum():,} samples are blood, cultured cells or frozen brain (site code 00), which "
            f"no slide was cut from: {names}."
        )
    return samples.sort_values("sample", ignore_index=True)


def prepare_slides(slides: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Slides with donor and `place` of their ids, and a tissue, empty where their table has none."""
    rna = slides["slide"].str.contains(_RNA)
    if rna.any():
        name = slides.loc[rna, "slide"].iloc[0]
        raise ValueError(
            f"--slides lists RNA samples ({name}), not slides; the file of a slide is called like GTEX-11GSP-0725.svs."
        )
    known = is_id(slides["slide"])
    if not known.all():
        notes.append(f"{(~known).sum():,} slides left out: no GTEx id ({first_few(slides.loc[~known, 'slide'])}).")
    slides = slides[known].assign(tissue=slides.get("tissue", ""), **_donor_and_place(slides.loc[known, "slide"]))
    return slides.reset_index(drop=True)


def _donor_and_place(ids: pd.Series) -> dict[str, pd.Series]:
    parts = ids.str.extract(_ID)
    code = parts[1]
    place = code.str[:2].where(code < "50", code).mask(code.str.startswith("00"), "")
    return {"donor": parts[0].map(spelled), "place": place}
