"""What TCGA's barcodes say: source site, participant, sample type and vial, portion and analyte, plate, centre.

`TCGA-05-4244-01A-01R-1107-07` is RNA of vial A of the primary tumour (01); 11 is normal tissue beside it.
`TCGA-05-4244-01Z-00-DX1.UUID.svs` is a diagnostic slide (fixed in formalin, from the block that the hospital diagnosed
on), `TCGA-05-4244-01A-01-TS1.UUID.svs` a frozen one (TS, BS, MS: top, bottom or middle of the portion that gave the
RNA). Codes: https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/ and the GDC's code tables.
"""

from collections.abc import Collection, Sequence

import pandas as pd

from rnagan.cohort.people import PERSON, SIGN, spelled
from rnagan.io.tables import first_few

PLACE = "sample type"
SLIDE_KINDS = ("diagnostic", "frozen", "both")
_CASE = rf"(?i)^(?P<donor>{PERSON['TCGA']})"
_SLIDE = rf"{_CASE}{SIGN}(?P<place>\d\d)[A-Z]{SIGN}\d\d{SIGN}(?P<kind>DX|TS|BS|MS)"
_SAMPLE = (
    rf"{_CASE}(?:{SIGN}(?P<place>\d\d)(?P<vial>[A-Z])?"
    rf"(?:{SIGN}\d\d(?P<analyte>[A-Z])?(?:{SIGN}(?P<plate>[A-Z0-9]{{4}})(?:{SIGN}\d\d)?)?)?)?$"
)
# Added to the tissue's name, so that a normal never counts as a tumour. Primary tumours keep the name.
_TYPE_SUFFIX = {
    "01": "",
    "03": "",
    "09": "",
    "02": "recurrent",
    "04": "recurrent",
    "05": "new primary",
    "06": "metastatic",
    "07": "additional metastatic",
    "10": "blood normal",
    "11": "normal",
    "12": "buccal normal",
    "13": "EBV normal",
    "14": "bone marrow normal",
}
_ANALYTES = "HRT"  # in this order


def is_slide(ids: pd.Series) -> pd.Series:
    """Which ids are those of TCGA's slides."""
    return ids.str.extract(_SLIDE)["donor"].notna()


def is_sample(ids: pd.Series) -> pd.Series:
    """Which ids are a TCGA case, sample or aliquot."""
    return ids.str.extract(_SAMPLE)["donor"].notna()


def match_expression(samples: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """`samples` renamed to the ids of an expression table that are longer or shorter barcodes of the same sample.

    GDC sheets name samples (TCGA-05-4244-01A), matrices often aliquots of them, or cases. An id is given the row of its
    sample, else (a case alone is taken as its primary tumour) of its case's sample of type 01. Others are left out.
    """
    of_row = samples.get("barcode", samples["sample"]).map(spelled)
    rows = dict(zip(reversed(of_row.str[:16].tolist()), reversed(range(len(samples))), strict=True))
    cases: dict[str, int] = {}
    for n, barcode in enumerate(of_row):
        if barcode[12:15] in ("", "-01"):
            cases.setdefault(barcode[:12], n)
    found: dict[str, int] = {}
    for name in dict.fromkeys(ids):
        barcode = spelled(name)
        row = rows.get(barcode[:16], cases.get(barcode[:12]) if barcode[12:15] in ("", "-01") else None)
        if row is not None:
            found[name] = row
    matched = samples.iloc[list(found.values())].drop(columns="barcode", errors="ignore")
    return matched.assign(sample=list(found)).reset_index(drop=True)


def prepare_samples(
    samples: pd.DataFrame, types: Collection[str], all_aliquots: bool, chosen: Collection[str], notes: list[str]
) -> pd.DataFrame:
    """Samples of the wanted `types` with donor and `place` (sample type) of their barcodes, the preferred ones first.

    The tissue gets the sample type (`lung (normal)`), the site is the tissue source site where the table has none. Of
    several profiles of one donor and type the one kept (or first, with `all_aliquots`) is one in `chosen` (those of an
    earlier table), else by the rule for replicates of the Broad Institute's GDAC (gdac.broadinstitute.org,
    "Replicate Samples"): analyte H before R before T, then the later plate, then the name that sorts last. Vial A goes
    before B: GDAC leaves out formalin-fixed replicates, which are later vials, and a barcode doesn't say so.
    """
    parts = _parts(samples.get("barcode", samples["sample"]), _SAMPLE)
    samples = samples.drop(columns="barcode", errors="ignore").assign(donor=parts["donor"], place=parts["place"])
    samples = _left_out(samples, samples["donor"].isna(), "samples", "no TCGA barcode", notes)
    alone = samples["place"].isna()
    if alone.any():
        names = first_few(samples.loc[alone, "sample"])
        notes.append(f"{alone.sum():,} samples are called by their case alone and taken as type 01: {names}.")
    samples["place"] = samples["place"].fillna("01")
    samples = _of_types(samples, types, "samples", notes)
    suffix = samples["place"].map(lambda code: _TYPE_SUFFIX.get(code, f"type {code}"))
    said = [text in tissue.casefold() for text, tissue in zip(suffix, samples["tissue"], strict=True)]
    samples["tissue"] = samples["tissue"].where(said, samples["tissue"] + " (" + suffix + ")")
    samples["site"] = samples["site"].where(samples["site"] != "", samples["donor"].str.split("-").str[1])
    samples = samples.loc[_by_preference(samples["sample"], parts.loc[samples.index], chosen)]
    further = samples.duplicated(["donor", "place"])
    if further.any():
        fate = "kept without a slide" if all_aliquots else "left out"
        people = samples.loc[further, ["donor", "place"]].drop_duplicates()
        notes.append(
            f"{further.sum():,} further aliquots of {len(people):,} donors' samples are {fate} (vial A first, then "
            f"GDAC's rule: analyte H, R, T; later plate): {first_few(sorted(samples.loc[further, 'sample']))}."
        )
    return (samples if all_aliquots else samples[~further]).reset_index(drop=True)


def _parts(ids: pd.Series, pattern: str) -> pd.DataFrame:
    """What barcodes in any spelling say, in TCGA's own."""
    return ids.str.extract(pattern).map(spelled, na_action="ignore")


def _by_preference(names: pd.Series, parts: pd.DataFrame, chosen: Collection[str]) -> pd.Index:
    """Index of `names` in the order of `prepare_samples`; `parts`: their vial, analyte and plate."""
    rank = pd.DataFrame(
        {
            "later": ~names.isin(chosen),
            "vial": parts["vial"].fillna("A"),
            "analyte": parts["analyte"].fillna("R").map(lambda letter: (_ANALYTES + letter).index(letter)),
            "plate": parts["plate"].fillna(""),
            "name": names,
        }
    )
    return rank.sort_values(list(rank), ascending=[True, True, True, False, False]).index


def prepare_slides(slides: pd.DataFrame, kind: str, types: Collection[str], notes: list[str]) -> pd.DataFrame:
    """Slides of the wanted kind and types with donor and `place` (sample type) of their names.

    Their tissue is that of the profile; a tissue in their own table is ignored.
    """
    if kind not in SLIDE_KINDS:
        raise ValueError(f"--tcga-slides must be one of {', '.join(SLIDE_KINDS)}, not {kind!r}.")
    parts = _parts(slides["slide"], _SLIDE)
    slides = slides.assign(donor=parts["donor"], place=parts["place"], tissue="")
    slides = _left_out(slides, slides["donor"].isna(), "slides", "no TCGA slide name", notes)
    diagnostic = parts.loc[slides.index, "kind"] == "DX"
    if len(slides):
        notes.append(
            f"{diagnostic.sum():,} slides are diagnostic (DX, FFPE) and {(~diagnostic).sum():,} frozen (TS, BS, MS); "
            f"--tcga-slides {kind}."
        )
    if kind != "both":
        other = ~diagnostic if kind == "diagnostic" else diagnostic
        slides = _left_out(slides, other, "slides", "frozen" if kind == "diagnostic" else "diagnostic", notes)
    return _of_types(slides, types, "slides", notes).reset_index(drop=True)


def _of_types(table: pd.DataFrame, types: Collection[str], what: str, notes: list[str]) -> pd.DataFrame:
    for code in sorted(set(table["place"]) - set(types)):
        table = _left_out(table, table["place"] == code, what, f"sample type {code}", notes)
    return table


def _left_out(table: pd.DataFrame, rows: pd.Series, what: str, reason: str, notes: list[str]) -> pd.DataFrame:
    if rows.any():
        notes.append(f"{rows.sum():,} {what} left out: {reason} ({first_few(table.loc[rows].iloc[:, 0])}).")
    return table[~rows].copy()
