"""Samples and slides as they come, in tables and folders, as columns of one name.

Recognised beside our own columns: GTEx's SampleAttributesDS.txt (SAMPID, SMTSD or SMTS, SMCENTER, SMAFRZE), GTEx's list
of histology images (Tissue Sample ID, Tissue, Subject ID) and the article's (wsi_file_name), and the GDC's sample
sheets (gdc_sample_sheet.*.tsv: File Name, Data Type, Project ID, Case ID, Sample ID, Sample Type).
"""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from rnagan.cohort.names import find_slides, shard_name, slide_of
from rnagan.tables import UNREADABLE, column_names, first_few, need_columns, read_table

_SAMPLE_COLUMNS = {
    "sample": ("sample", "SAMPID", "Sample ID"),
    "donor": ("donor", "Case ID"),
    "tissue": ("tissue", "SMTSD", "SMTS", "Project ID"),
    "site": ("site", "SMCENTER"),
    "barcode": ("Sample ID",),
}
_SLIDE_COLUMNS = {
    "slide": ("slide", "wsi_file_name", "Tissue Sample ID", "File Name"),
    "donor": ("donor", "Subject ID", "Case ID"),
    "tissue": ("tissue", "Tissue", "Project ID"),
    "site": ("site",),
    "sample": ("sample",),
}
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
) -> pd.DataFrame:
    """The profiles of an attribute or expression table: sample, donor, tissue, site and those of `keep`, as strings.

    `columns` names columns that are called otherwise; `tissue` stands in for a tissue column. Only RNA samples of
    GTEx's SMAFRZE and gene expression of a GDC sheet are taken; what is left out is added to `notes`. GTEx sample ids
    are recognised: their first two fields are the donor. Without a donor column each sample is its own donor. A GDC
    sheet whose samples aren't called by their barcode gives it as `barcode`. Only these columns are read, however wide
    the table is; of a GCT only its header.
    """
    notes = [] if notes is None else notes
    if _kind(path) == "gct":
        found, samples = {"sample": "SAMPID"}, pd.DataFrame({"sample": expression_samples(path)})
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
        samples["donor"] = samples["sample"]
        if found["sample"] == "SAMPID" or samples["sample"].str.startswith("GTEX-").all():
            samples["donor"] = samples["sample"].str.split("-").str[:2].str.join("-")
    repeated = samples["sample"].duplicated()
    if found["sample"] == "Sample ID" and repeated.any():
        names = first_few(samples.loc[repeated, "sample"].unique())
        notes.append(f"{repeated.sum():,} further files of a sample share its id and count as one profile: {names}.")
        samples = samples[~repeated]
    elif repeated.any():
        raise ValueError(f"{path} has samples twice ({first_few(samples.loc[repeated, 'sample'])}).")
    extra = [*(["barcode"] if found["sample"] != found.get("barcode") and "barcode" in samples else []), *keep]
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
    shards/build_tiles.py packs them; `columns` then names the donor column. Of a GDC sheet the slide images are taken,
    and what is left out is added to `notes`.
    """
    notes = [] if notes is None else notes
    if Path(path).is_dir():
        return pd.DataFrame({"slide": list(find_slides([path])), "site": ""})
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


def expression_samples(path: Path | str) -> list[str]:
    """The samples of an expression table without its values: line 3 of a GCT, the first column of a CSV or TSV."""
    path, kind = Path(path), _kind(path)
    if not path.is_file():
        raise FileNotFoundError(f"The expression table {path} does not exist.")
    if kind not in ("gct", "csv", "tsv", "txt"):
        raise ValueError(f"{path} ends in none of .gct, .csv, .tsv, .txt (or these with .gz); rename or convert it.")
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as handle:
            if kind == "gct":
                lines = [handle.readline().rstrip("\r\n") for _ in range(3)]
                head = lines[2].split("\t")
                if not lines[0].startswith("#1.") or head[:2] != ["Name", "Description"]:
                    raise ValueError("line 1 must be #1.2 and line 3 start with Name and Description")
                return head[2:]
            handle.readline()
            separator = "," if kind == "csv" else "\t"
            return [_first_field(line, separator) for line in handle if line.strip()]
    except UNREADABLE as error:
        raise ValueError(f"The samples of {path} can't be read ({error}).".replace("\n", " ")) from None


def _first_field(line: str, separator: str) -> str:
    start = line[:1000]  # a line may hold half a million bytes
    return next(csv.reader([start], delimiter=separator))[0].strip() if '"' in start else start.partition(separator)[0]


def _kind(path: Path | str) -> str:
    return Path(path).name.lower().removesuffix(".gz").rpartition(".")[2]


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
    told = [column for column in (*_WANTED_SAMPLES, *_GDC_TYPES, *keep) if column in names]
    table = read_table(path, list(dict.fromkeys([*found.values(), *told])))
    renamed = pd.DataFrame({name: table[column] for name, column in found.items()})
    renamed = renamed.assign(**{column: table[column] for column in told if column not in renamed})
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
