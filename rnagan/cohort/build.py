"""Samples and slides as they are downloaded → the cohort table on disk."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rnagan.cohort.leave_out import leave_out
from rnagan.cohort.pairing import build_cohort
from rnagan.cohort.people import check_strangers, refuse_one_person_as_several
from rnagan.cohort.readers import gtex, tcga
from rnagan.cohort.readers.subjects import add_subjects, read_subjects
from rnagan.cohort.readers.user_tables import read_samples, read_slides, sample_columns, says_donors
from rnagan.cohort.table import COLUMNS, OPTIMISTIC, SPLIT_BY, SPLITS, describe, read_cohort
from rnagan.io.cells import safe_table
from rnagan.io.files import write_text
from rnagan.io.matrix import matrix_samples
from rnagan.io.tables import first_few

SOURCES = ("auto", "gtex", "tcga", "table")
_OWN = ("image_donor", "split_by", "place", "unpictured", "barcode")  # further columns with a meaning here


@dataclasses.dataclass(frozen=True)
class CohortOptions:
    """How a cohort table is built from what was downloaded.

    `source`: which project's ids say what belongs together, or the tables' columns (`table`); `auto` looks at the
    ids. `pair_by`: donor or tissue (`pairing.build_cohort`). `columns`: what sample, donor, tissue and site are
    called in either table. `tissue`: of all samples, where their table has no such column. `tissues`: only these;
    all if empty. `expression`: only samples of this table; `rows`: samples or genes, where it doesn't say what its
    rows are. `keep`: further columns of either table to carry along. `tcga_slides`: diagnostic, frozen or both.
    `sample_types`: TCGA's codes that are wanted. `all_aliquots`: keep further profiles of one TCGA sample, without
    a slide. `split_by`: donor; or sample, as the article did, which lets a donor be in several splits. `all_in`:
    one split for everybody, as for an external cohort. `leave_out`: who is in no split of training (`leave_out`), by
    values of columns. `seed`: of the splits and of pairs by tissue.
    """

    source: str = "auto"
    pair_by: str = "donor"
    columns: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    tissue: str = ""
    tissues: tuple[str, ...] = ()
    expression: Path | None = None
    rows: str | None = None
    keep: tuple[str, ...] = ()
    tcga_slides: str = "diagnostic"
    sample_types: tuple[str, ...] = ("01", "11")
    all_aliquots: bool = False
    split_by: str = "donor"
    all_in: str | None = None
    leave_out: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"--source must be one of {', '.join(SOURCES)}, not {self.source!r}.")
        if self.source in ("gtex", "tcga") and self.pair_by == "tissue":
            raise ValueError(f"--pair-by tissue and --source {self.source}, which pairs by donor, exclude each other.")
        if self.source in ("gtex", "tcga") and self.columns.get("donor"):
            raise ValueError(f"With --source {self.source} the ids say the donor; leave out --donor-column.")
        if self.split_by not in SPLIT_BY:
            raise ValueError(f"--split-by must be one of {', '.join(SPLIT_BY)}, not {self.split_by!r}.")
        if self.split_by in ("section", "block"):
            raise ValueError(f"--split-by {self.split_by} is for a table of spots; name its --profile-column too.")
        if self.all_in is not None and self.all_in not in SPLITS:
            raise ValueError(f"--all-in must be one of {', '.join(SPLITS)}, not {self.all_in!r}.")
        if self.all_in is not None and self.split_by == "sample":
            raise ValueError("--all-in puts everybody into one split; leave out --split-by sample.")
        if self.all_in is not None and self.leave_out:
            raise ValueError("--all-in puts everybody into one split; leave out --leave-out.")
        own = [column for column in self.keep if column in (*COLUMNS, *_OWN)]
        if own:
            raise ValueError(
                f"--keep {own[0]} names a column with a meaning of its own here; leave it out or rename it."
            )
        wrong = [code for code in self.sample_types if not (len(code) == 2 and code.isdigit())]
        if wrong or not self.sample_types:
            raise ValueError(f"--sample-types must be two-digit codes like 01,11, not {','.join(self.sample_types)!r}.")


def make_cohort_table(
    samples: Path | str,
    slides: Path | str | None,
    out: Path | str,
    options: CohortOptions | None = None,
    *,
    extend: Path | str | None = None,
    subjects: Path | str | None = None,
) -> list[str]:
    """Read samples and slides, write their cohort table to `out`, and return lines that say what became of them.

    `samples`: a table of attributes or expression, or GEO's series matrix. `slides`: a folder or a table; None for
    profiles alone. `subjects`: a table of donors, whose age, sex and the like are added. The first line says which
    rule pairs them. An existing `out` that would change is refused unless it is the one that is extended (`extend`): a
    second run must not move donors between splits unnoticed.
    """
    out, options = Path(out), options or CohortOptions()
    if slides is None and options.pair_by == "tissue":
        raise ValueError("--pair-by tissue pairs slides with profiles; give --slides, or leave it out.")
    if options.all_in is not None and extend is not None:
        raise ValueError("--all-in puts everybody into one split, and --extend keeps everybody's; give one of them.")
    if options.leave_out and extend is not None:
        raise ValueError("--leave-out moves people between splits, and --extend keeps everybody's; give one of them.")
    existing = read_cohort(extend) if extend else None
    ids = _expression_ids(options)
    people = None if subjects is None else read_subjects(subjects, options.keep)
    profiles, images, notes = _read(samples, slides, options, ids, [] if people is None else list(people))
    source, reason = options.source, f"--source {options.source}"
    if source == "auto":
        source, reason = _recognise(profiles, images, options)
    if options.expression is not None:
        profiles = _in_expression(profiles, options.expression, ids, source, notes)
    place_name = "place"
    if source == "table":
        if not says_donors(samples, options.columns):
            check_strangers(profiles["sample"], samples, notes, declared=options.source == "table")
        refuse_one_person_as_several(profiles, samples)
    if source == "gtex":
        profiles, images = gtex.prepare_samples(profiles, notes), gtex.prepare_slides(images, notes)
        place_name = gtex.PLACE
    elif source == "tcga":
        chosen = set() if existing is None else set(existing["sample"])
        types = options.sample_types
        profiles = tcga.prepare_samples(profiles, types, options.all_aliquots, chosen, notes)
        images = tcga.prepare_slides(images, options.tcga_slides, types, notes)
        place_name = tcga.PLACE
    elif slides is not None:
        _need_donor_and_tissue(slides, images)
    if people is not None and subjects is not None and len(profiles):
        profiles = add_subjects(profiles, people, subjects, notes)
    if (profiles["donor"] == profiles["sample"]).all():
        notes.append("No donor is known beside the sample: each sample counts as a donor of its own.")
    for what, left, path in (("sample", profiles, samples), ("slide", images, slides)):
        if left.empty and path is not None:
            raise ValueError(f"No {what} of {path} is left: {' '.join(notes)}")
    cohort, more = build_cohort(
        profiles,
        images,
        options.pair_by,
        options.seed,
        existing,
        place_name,
        options.tissues,
        split_by=options.split_by,
        all_in=options.all_in,
    )
    if options.leave_out:
        cohort, line = leave_out(cohort, options.leave_out)
        more.append(line)
    rule = _rule(source, options, images, place_name) if slides is not None else "profiles without slides"
    lines = [f"Rule {source} ({reason}): {rule}.", *notes, *more]
    if options.split_by == "sample":
        lines.append(OPTIMISTIC)
    text = safe_table(cohort).to_csv(index=False)
    if out.is_file() and out.read_text(encoding="utf-8") == text:
        return [*lines, f"{out} is up to date."]
    if out.exists() and (extend is None or Path(extend).resolve() != out.resolve()):
        raise ValueError(f"{out} exists and would change; add --extend {out} to keep everybody's split, or delete it.")
    write_text(out, text)
    return [*lines, f"{out}: {describe(cohort)}"]


def _rule(source: str, options: CohortOptions, images: pd.DataFrame, place_name: str) -> str:
    if options.pair_by == "tissue":
        return "each image donor goes with a profile of its tissue"
    if source != "table":
        return f"a slide goes with the RNA profile of its donor and {place_name}"
    return "a slide goes with the profile " + (
        "that its table names" if "sample" in images else "of its donor and tissue"
    )


def _expression_ids(options: CohortOptions) -> list[str]:
    if options.expression is None:
        return []
    return matrix_samples(options.expression, options.rows, options.columns.get("sample") or "sample")


def _read(
    samples: Path | str,
    slides: Path | str | None,
    options: CohortOptions,
    expression: list[str],
    of_subjects: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Both tables, each with the named columns that it has, and notes; `of_subjects`: columns of --subjects."""
    paths = [path for path in (samples, slides) if path is not None]
    headers = {path: sample_columns(path) for path in paths}
    given = {ours: column for ours, column in options.columns.items() if column}
    options_of = [(column, f"--{ours}-column") for ours, column in given.items()]
    for column, option in [*options_of, *((column, "--keep") for column in options.keep)]:
        if column not in of_subjects and all(column not in header for header in headers.values()):
            if len(paths) == 1:
                raise ValueError(f"{samples} has no column {column} ({option}).")
            raise ValueError(f"Neither {samples} nor {slides} has the column {column} ({option}).")
    own = {
        path: {ours: column for ours, column in given.items() if column in header} for path, header in headers.items()
    }
    notes: list[str] = []
    profiles = read_samples(
        samples,
        own[samples],
        keep=options.keep,
        tissue=options.tissue,
        notes=notes,
        expression=expression,
        rows=options.rows if options.expression is None else None,
    )
    if slides is None:
        return profiles, pd.DataFrame(columns=["slide", "donor", "tissue", "site"], dtype=str), notes
    images = read_slides(slides, own[slides], keep=("mpp", *options.keep), notes=notes)
    return profiles, images, notes


def _recognise(profiles: pd.DataFrame, images: pd.DataFrame, options: CohortOptions) -> tuple[str, str]:
    """The source and why, from the ids and the user's options."""
    if options.pair_by == "tissue":
        return "table", "--pair-by tissue"
    if options.columns.get("donor"):
        return "table", "--donor-column"
    if "sample" in images:
        return "table", "the slides' table has a column sample"
    barcodes = profiles.get("barcode", profiles["sample"])
    for source, of_slide, of_sample in (
        ("gtex", gtex.is_id(images["slide"]), gtex.is_id(barcodes)),
        ("tcga", tcga.is_slide(images["slide"]), tcga.is_sample(barcodes)),
    ):
        if of_slide.all() and (of_sample.any() if len(images) else of_sample.all()):
            return source, "recognised by the ids"
    return "table", "the ids aren't all GTEx's or TCGA's"


def _need_donor_and_tissue(path: Path | str, images: pd.DataFrame) -> None:
    missing = [column for column in ("donor", "tissue") if column not in images]
    if "sample" in images or not missing:
        return
    if not Path(path).is_dir() and "donor" in images:
        raise ValueError(f"{path} has no column tissue; it has {first_few(sample_columns(path), 8)}.")
    of_gtex, of_tcga = gtex.is_id(images["slide"]), tcga.is_slide(images["slide"])
    if of_gtex.any() and of_tcga.any() and (of_gtex | of_tcga).all():
        raise ValueError(
            f"{path} holds slides of GTEx ({of_gtex.sum():,}) and of TCGA ({of_tcga.sum():,}) and doesn't say their "
            "donors and tissues; make one cohort table a project (--source gtex or tcga leaves others out), or give a "
            "table with slide, donor and tissue."
        )
    other = images.loc[~(of_gtex | of_tcga), "slide"]
    named = "the samples aren't"
    if len(other):
        named = f"{len(other):,} of {len(images):,} slides ({first_few(other)}) aren't"
    raise ValueError(
        f"{path} doesn't say the slides' {' and '.join(missing)}, and {named} called as GTEx or TCGA does; give a "
        "table with slide, donor and tissue, or say --source gtex or tcga, which leaves others out."
    )


def _in_expression(
    profiles: pd.DataFrame, expression: Path, ids: list[str], source: str, notes: list[str]
) -> pd.DataFrame:
    """The profiles that an expression table, with samples `ids`, holds."""
    here = profiles["sample"].isin(ids)
    if not here.any() and source == "tcga":
        matched = tcga.match_expression(profiles, ids)
        if len(matched):
            notes.append(f"Samples are called as in {expression}; their barcodes give the rows of the attributes.")
            profiles, here = matched, matched["sample"].notna()
    if not here.any():
        raise ValueError(
            f"No sample is in {expression}: it starts with {first_few(ids, 1)}, the samples with "
            f"{first_few(profiles['sample'], 1)}; use the same sample ids."
        )
    known = set(profiles["sample"])
    strangers = [name for name in ids if name not in known]
    if (~here).any():
        left = first_few(profiles.loc[~here, "sample"])
        notes.append(f"{(~here).sum():,} samples left out: not in {expression} ({left}).")
    if strangers:
        notes.append(
            f"{len(strangers):,} profiles of {expression} left out: --samples lacks them ({first_few(strangers)})."
        )
    return profiles[here].reset_index(drop=True)
