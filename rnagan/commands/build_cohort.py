"""Write the cohort table: which slide belongs to which profile, donor, tissue, split and site.

The first line that it prints says which rule pairs them. GTEx: by donor and tissue site, from the ids. TCGA: by donor
and sample type, from the barcodes. Otherwise by the columns donor and tissue.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options

COMMANDLINE = click.core.ParameterSource.COMMANDLINE


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.option(
    "--samples",
    required=True,
    type=options.FILE,
    help="Table of profiles: attributes (GTEx's, GDC sample sheets and GEO's series matrices are recognised) or "
    "expression.",
)
@click.option(
    "--slides",
    type=options.FILE_OR_FOLDER,
    help="Folder of slides, table of slides (slide, donor, tissue; or a GDC sheet), or of tiles (path, tissue, donor). "
    "Without it the table holds profiles alone.",
)
@click.option(
    "--subjects",
    type=options.FILE,
    help="Table of donors with age, sex or ischaemic time: GTEx's SubjectPhenotypesDS, the GDC's clinical.tsv, or "
    "columns donor, age, sex, ischaemic_min.",
)
@click.option("--out", required=True, type=options.NEW_FILE, help="The cohort table, a CSV.")
@click.option(
    "--expression", type=options.FILE, help="Keep only samples of this expression table; its values aren't read."
)
@click.option(
    "--rows", type=click.Choice(["samples", "genes"]), help="What the rows of --expression are; else detected."
)
@click.option(
    "--source",
    type=click.Choice(["auto", "gtex", "tcga", "table"]),
    default="auto",
    help="Whose ids say what belongs together; table: the columns donor and tissue.",
)
@click.option(
    "--pair-by",
    type=click.Choice(["donor", "tissue"]),
    default="donor",
    help="By donor; or by tissue alone, where images and profiles come from different people.",
)
@click.option("--tissues", callback=options.comma_separated, help='Keep only these, such as "Lung,Brain - Cortex".')
@click.option("--tissue-is", type=options.TEXT, help="Tissue of all samples, where --samples doesn't say it.")
@click.option(
    "--tcga-slides",
    type=click.Choice(["diagnostic", "frozen", "both"]),
    default="diagnostic",
    help="TCGA: FFPE slides (DX), frozen ones (TS, BS, MS), or both.",
)
@click.option(
    "--sample-types",
    callback=options.comma_separated,
    default="01,11",
    help="TCGA: sample types to keep; 11 is normal.",
)
@click.option(
    "--aliquots",
    type=click.Choice(["one", "all"]),
    default="one",
    help="TCGA: one profile of each donor and sample type, or all, the further ones without slides.",
)
@click.option(
    "--keep", callback=options.comma_separated, help="Further columns of these tables, such as SMRIN,SMATSSCR."
)
@click.option("--sample-column", type=options.TEXT, help="Column of the sample in --samples.")
@click.option("--donor-column", type=options.TEXT, help="Column of the donor, in whichever of the two tables has it.")
@click.option("--tissue-column", type=options.TEXT, help="Column of the tissue, in whichever of the two tables has it.")
@click.option("--site-column", type=options.TEXT, help="Column of the centre, in whichever of the two tables has it.")
@click.option(
    "--split-by",
    type=click.Choice(["donor", "sample", "section", "block"]),
    default="donor",
    help="sample: as the article did; a donor may be in several splits, and scores are optimistic. Of spots, section "
    "or block: parts of each section.",
)
@click.option(
    "--profile-column",
    type=options.TEXT,
    help="--samples is a table of spots, a row each: column of the spot's own profile. --slides isn't needed.",
)
@click.option("--section-column", type=options.TEXT, help="Of spots: column of the section; one shard each.")
@click.option("--x-column", type=options.TEXT, help="Of spots: column of the position: of blocks, pooling and maps.")
@click.option("--y-column", type=options.TEXT, help="Of spots: column of the position, likewise.")
@click.option(
    "--gap",
    type=float,
    help="Of spots, with --split-by block: distance, in the unit of the positions, below which neighbours in different "
    "splits are left out.",
)
@click.option(
    "--all-in",
    type=click.Choice(options.DEALT_SPLITS),
    help="Everybody in one split, as test for an external cohort.",
)
@click.option(
    "--leave-out",
    type=options.TEXT,
    help="Everybody for whom this holds, such as site=C2, is in a split of their own that no training sees.",
)
@options.seed("Seed of the splits and of pairs by tissue.")
@click.option("--extend", type=options.FILE, help="An earlier cohort table: everybody in it keeps their split.")
def main(
    samples: Path, slides: Path | None, subjects: Path | None, out: Path, extend: Path | None, **given: Any
) -> None:
    from rnagan.cohort.build import CohortOptions, make_cohort_table

    given["leave_out"] = given["leave_out"] or ""
    spots = {name: given.pop(f"{name}_column") for name in ("profile", "section", "x", "y")} | {"gap": given.pop("gap")}
    if spots["profile"]:
        options.echo_lines(_of_spots(samples, out, spots, given, slides or subjects or extend))
        return
    if any(value is not None for value in spots.values()):
        raise click.UsageError("--section-column, --x-column, --y-column and --gap are for --profile-column.")
    columns = {ours: given.pop(f"{ours}_column") for ours in ("sample", "donor", "tissue", "site")}
    chosen = CohortOptions(
        columns=columns, tissue=given.pop("tissue_is") or "", all_aliquots=given.pop("aliquots") == "all", **given
    )
    options.echo_lines(make_cohort_table(samples, slides, out, chosen, extend=extend, subjects=subjects))


def _of_spots(table: Path, out: Path, spots: dict[str, Any], given: dict[str, Any], further: Path | None) -> list[str]:
    from rnagan.cohort.spots import SpotOptions, make_spot_cohort

    if not spots["section"]:
        raise click.UsageError("--profile-column needs --section-column: which section a spot is of.")
    used = {
        "donor_column",
        "tissue_column",
        "site_column",
        "tissue_is",
        "expression",
        "rows",
        "split_by",
        "all_in",
        "leave_out",
        "seed",
    }
    context = click.get_current_context()
    asked = [name for name in given if name not in used and context.get_parameter_source(name) is COMMANDLINE]
    if further is not None or asked:
        named = ", ".join("--" + name.replace("_", "-") for name in asked) or "--slides, --subjects or --extend"
        raise click.UsageError(
            f"A table of spots (--profile-column) says by itself what belongs together: leave out {named}."
        )
    columns = {ours: given[f"{ours}_column"] for ours in ("donor", "tissue", "site")}
    settings = {name: given[name] for name in ("expression", "rows", "split_by", "all_in", "leave_out", "seed")}
    given_columns = {name: value for name, value in (spots | columns).items() if value is not None}
    return make_spot_cohort(table, out, SpotOptions(**given_columns, **settings, tissue_is=given["tissue_is"] or ""))


if __name__ == "__main__":
    main()
