"""Samples and slides as they come, in tables and folders, as columns of one name.

Recognised beside our own columns: GTEx's SampleAttributesDS.txt (SAMPID, SMTSD or SMTS, SMCENTER, SMTSISCH, SMAFRZE),
its list of histology images (Tissue Sample ID, Tissue, Subject ID) and the article's (wsi_file_name), the GDC's sample
sheets (gdc_sample_sheet.*.tsv: File Name, Data Type, Project ID, Case ID, Sample ID, Sample Type), and GEO's series
matrices.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from rnagan.cohort.people import donors_of_ids, people
from rnagan.cohort.readers.geo import NAMES, is_series_matrix, read_series_matrix
from rnagan.cohort.readers.subjects import COVARIATES
from rnagan.cohort.slide_files import find_slides
from rnagan.cohort.slide_ids import is_shard_name, shard_name, slide_of
from rnagan.io.matrix import BINARY_KINDS, matrix_samples
from rnagan.io.matrix_rows import GENE_WORDS
from rnagan.io.matrix_text import read_layout
from rnagan.io.tables import column_names, first_few, need_columns, read_table, table_format

_GTEX_SAMPLE = "SAMPID"
_PEOPLE = ("donor", "subject", "individual", "patient", "participant")
_SAMPLE_COLUMNS = {
    "sample": ("sample", _GTEX_SAMPLE, "Sample ID"),
    "donor": (
        "donor",
        "Case ID",
        "donor_id",
        "patient_id",
        "subject_id",
        "individual_id",
        "case_submitter_id",
        "SUBJID",
    ),
    "tissue": ("tissue", "SMTSD", "SMTS", "Project ID"),
    "site": ("site", "SMCENTER"),
    "age": ("age",),
    "sex": ("sex",),
    "ischaemic_min": ("ischaemic_min", "SMTSISCH"),
    "barcode": ("Sample ID",),
}
_GEO_COLUMNS = {
    "sample": NAMES,
    "donor": tuple(f"{who}{end}" for who in _PEOPLE for end in ("", " id", "_id", "id", " identifier")),
    "tissue": ("tissue",),
    "site": ("site",),
}
_SLIDE_COLUMNS = {
    "slide": ("slide", "wsi_file_name", "Tissue Sample ID", "File Name"),
    "donor": ("donor", "Subject ID", "Case ID"),
    "tissue": ("tissue", "Tissue", "Project ID"),
    "site": ("site",),
    "sample": ("sample",),
}
_GENE_COLUMNS = ("", "unnamed: 0", *GENE_WORDS)  # first columns of expression whose rows are genes
# Columns that say what a row is, and the one value that is wanted in each.
_WANTED_SAMPLES = {"SMAFRZE": "RNASEQ", "Data Type": "Gene Expression Quantification"}
_WANTED_SLIDES = {"Data Type": "Slide Image"}
_GDC_TYPES = ("Sample Type", "Tissue Type")  # before and since 2024


def read_samples(
    path: Path | str,
    columns: Mapping[str, str] | None = None,
    *,
    keep: Sequence[str] = (),
    tissue: str = "",
    notes: list[str] | None = None,
    expression: Sequence[str] = (),
    rows: str | None = None,
) -> pd.DataFrame:
    """The profiles of an attribute or expression table: sample, donor, tissue, site, those of COVARIATES that it has
    and those of `keep`, as strings.

    `columns` names columns that are called otherwise; `tissue` stands in for a tissue column. Only RNA samples of
    GTEx's SMAFRZE and gene expression of a GDC sheet are taken; what is left out is added to `notes`. Without a donor
    column the donor is the person that a sample's id names (`people.person_of`), else the sample itself. A GDC sheet
    whose samples aren't called by their barcode gives it as `barcode`. In a series matrix of GEO a sample is called as
    in `expression`, by accession or by title. Only these columns are read, however wide the table is; of expression
    whose rows are genes only the samples' names; `rows`: what they are, where the table doesn't say it.
    """
    notes = [] if notes is None else notes
    sample_column = (columns or {}).get("sample")
    if is_series_matrix(path):
        found, samples = _read_geo(path, dict(columns or {}), keep, expression, notes)
    elif only_expression(path, sample_column, rows):
        found, samples = {"sample": ""}, pd.DataFrame({"sample": matrix_samples(path, rows, sample_column or "sample")})
    else:
        found, samples = _read(path, columns or {}, _SAMPLE_COLUMNS, ("sample",), keep)
    if "tissue" not in samples and not tissue:
        raise ValueError(
            f"{path} has no column {' or '.join(_SAMPLE_COLUMNS['tissue'])}; name one with --tissue-column, or say "
            "with --tissue-is which tissue all samples are of."
        )
    if "tissue" in samples and tissue:
        raise ValueError(f"{path} has the tissue column {found['tissue']}; leave out --tissue-is.")
    samples = _only(samples.assign(tissue=samples.get("tissue", tissue)), _WANTED_SAMPLES, "sample", path, notes)
    if "donor" not in samples:
        samples["donor"] = donors_of_ids(samples["sample"])
        if found["sample"] == _GTEX_SAMPLE:  # its cell lines too: K-562-SM-2AXVE
            others = people(samples["sample"]) == ""
            fields = samples["sample"].str.split("[-.]").str[:2].str.join("-")
            samples["donor"] = samples["donor"].mask(others, fields)
    repeated = samples["sample"].duplicated()
    if found["sample"] == "Sample ID" and repeated.any():
        names = first_few(samples.loc[repeated, "sample"].unique())
        notes.append(f"{repeated.sum():,} further files of a sample share its id and count as one profile: {names}.")
        samples = samples[~repeated]
    elif repeated.any():
        raise ValueError(f"{path} has samples twice ({first_few(samples.loc[repeated, 'sample'])}).")
    extra = [
        *(["barcode"] if found["sample"] != found.get("barcode") and "barcode" in samples else []),
        *COVARIATES,
        *keep,
    ]
    extra = [column for column in dict.fromkeys(extra) if column in samples]
    return samples.reindex(columns=["sample", "donor", "tissue", "site", *extra], fill_value="").reset_index(drop=True)


def read_slides(
    path: Path | str,
    columns: Mapping[str, str] | None = None,
    *,
    keep: Sequence[str] = ("mpp",),
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """The slides of a folder, of a table, or the donors of a table of tiles: slide, site, and donor, tissue, sample and
    those of `keep` where the table has them.

    A slide may be given by its file name. In a table of tiles (`path` and no `slide` column) a donor is one slide, as
    rnagan build-tiles packs them; `columns` then names the donor column. Of a GDC sheet the slide images are taken,
    and what is left out is added to `notes`.
    """
    notes = [] if notes is None else notes
    if Path(path).is_dir():
        found = find_slides([path], notes)
        unfit = [slide for slide in found if not is_shard_name(slide)]
        if unfit:
            notes.append(f"{len(unfit):,} slides are left out, whose names are unfit for shards: {first_few(unfit)}.")
        return pd.DataFrame({"slide": [slide for slide in found if slide not in unfit], "site": ""})
    names = column_names(path)
    tiles = "path" in names and not any(column in names for column in _SLIDE_COLUMNS["slide"])
    required = ("donor", "tissue") if tiles else ("slide",)
    given = dict(columns or {})
    if "Data Type" in names:
        given.pop("sample", None)  # a GDC sheet has the column of the profiles' name too, but it names the slide's file
    _, slides = _read(path, given, _SLIDE_COLUMNS, required, keep)
    if tiles:
        slides["slide"] = slides["donor"].map(shard_name)
        slides = slides.drop_duplicates(["slide", "tissue"])
    else:
        slides = _only(slides, _WANTED_SLIDES, "slide", path, notes)
        slides["slide"] = slides["slide"].map(slide_of)
    if slides["slide"].duplicated().any():
        raise ValueError(f"{path} has slides twice ({first_few(slides.loc[slides['slide'].duplicated(), 'slide'])}).")
    slides = slides[[column for column in slides if column in (*_SLIDE_COLUMNS, *keep)]]
    return slides.assign(site=slides.get("site", "")).reset_index(drop=True)


def only_expression(path: Path | str, sample_column: str | None = None, rows: str | None = None) -> bool:
    """Whether a table has no column that names samples: its columns are the samples, or it is in a binary format.

    What its rows are is decided as rnagan build-expression does: the corner cell of a table of genes may be `sample`.
    """
    if rows == "genes" or _has_no_text_columns(path):
        return True
    names = column_names(path)
    known = (*_SAMPLE_COLUMNS["sample"], sample_column)
    if any(name in known for name in names[1:]):
        return False
    try:
        rows_are = read_layout(Path(path), rows, sample_column or "sample").rows_are
    except ValueError:  # a table of attributes, in which nothing is expression
        rows_are = ""
    return rows_are == "genes" or (names[0] not in known and names[0].casefold() in _GENE_COLUMNS)


def says_donors(path: Path | str, columns: Mapping[str, str | None]) -> bool:
    """Whether a table of samples says their donors, in a column or, as GTEx's attributes, by rule."""
    if columns.get("donor"):
        return True
    known = _GEO_COLUMNS if is_series_matrix(path) else _SAMPLE_COLUMNS
    names = sample_columns(path)
    return _GTEX_SAMPLE in names[:1] or any(name in names for name in known["donor"])


def sample_columns(path: Path | str) -> list[str]:
    """The columns of a table of samples or slides; none of a folder, and of expression that has none."""
    if Path(path).is_dir():
        return []
    if is_series_matrix(path):
        return list(read_series_matrix(path))
    return [] if _has_no_text_columns(path) else column_names(path)


def _has_no_text_columns(path: Path | str) -> bool:
    """Whether a file is of a format that holds expression alone."""
    return table_format(path).kind in ("gct", *BINARY_KINDS)


def _read_geo(
    path: Path | str, given: dict[str, str], keep: Iterable[str], expression: Sequence[str], notes: list[str]
) -> tuple[dict[str, str], pd.DataFrame]:
    table = read_series_matrix(path)
    ids = set(expression)
    hits = {name: int(table[name].isin(ids).sum()) for name in NAMES if name in table}
    if not given.get("sample"):
        given["sample"] = max(hits, key=hits.__getitem__)
        why = "as in the expression table" if any(hits.values()) else "--sample-column title or --expression changes it"
        notes.append(f"{path}: samples are called by their {given['sample']} ({why}).")
    found = _find_columns(list(table), given, path, _GEO_COLUMNS, ("sample",))
    renamed = pd.DataFrame({ours: table[column] for ours, column in found.items()})
    if "donor" in renamed:
        unknown = renamed["donor"] == ""
        renamed["donor"] = renamed["donor"].mask(unknown, renamed["sample"])
        if unknown.any():
            notes.append(f"{unknown.sum():,} samples have no {found['donor']}: each counts as a donor of its own.")
    return found, renamed.assign(**{column: table[column] for column in keep if column in table})


def _read(
    path: Path | str,
    given: Mapping[str, str],
    known: Mapping[str, tuple[str, ...]],
    required: tuple[str, ...],
    keep: Iterable[str],
) -> tuple[dict[str, str], pd.DataFrame]:
    """Our name → the table's column, and the table under our names, with columns that say what its rows are."""
    names = column_names(path)
    found = _find_columns(names, given, path, known, required)
    further = [column for column in (*_WANTED_SAMPLES, *_GDC_TYPES, *keep) if column in names]
    table = read_table(path, list(dict.fromkeys([*found.values(), *further])))
    renamed = pd.DataFrame({name: table[column] for name, column in found.items()})
    renamed = renamed.assign(**{column: table[column] for column in further if column not in renamed})
    types = [column for column in _GDC_TYPES if column in table]
    if types and found.get("tissue") == "Project ID":
        # A normal must not count as a tumour of its project.
        normal = renamed[types[0]].str.contains("normal", case=False)
        renamed["tissue"] = renamed["tissue"].where(~normal, renamed["tissue"] + " (normal)")
    return found, renamed


def _only(
    table: pd.DataFrame, wanted: Mapping[str, str], what: str, path: Path | str, notes: list[str]
) -> pd.DataFrame:
    """Rows that say they are of the wanted kind, or don't say what they are; the others are counted in `notes`."""
    for column, value in wanted.items():
        if column in table and (table[column] != "").any():
            others = table.loc[table[column] != value, column].value_counts()
            table = table[table[column] == value]
            if len(others):
                kinds = first_few([f"{count:,} {name or 'empty'}" for name, count in others.items()], 4)
                notes.append(f"{others.sum():,} rows of {path} left out: {column} is not {value} ({kinds}).")
    if table.empty:
        raise ValueError(f"{path} holds no {what}.")
    return table.copy()


def _find_columns(
    names: list[str],
    given: Mapping[str, str],
    path: Path | str,
    known: Mapping[str, tuple[str, ...]],
    required: tuple[str, ...],
) -> dict[str, str]:
    """Our name → the table's column: the given one, else the first known one that the table has."""
    found = {}
    for ours, candidates in known.items():
        if given.get(ours):
            need_columns(names, [given[ours]], path)
            found[ours] = given[ours]
        elif present := [column for column in candidates if column in names]:
            found[ours] = present[0]
        elif ours in required:
            raise ValueError(f"{path} has no column {' or '.join(candidates)}; it has {first_few(names, 8)}.")
    return found
