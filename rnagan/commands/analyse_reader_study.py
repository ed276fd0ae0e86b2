"""Analyse what readers said of tiles: means, paired tests, agreement, figure 6; or plan how many readers are needed.

--scores reads a table with columns reader, source, tissue and quality (perhaps tile, called, artefact, text, showing),
--study a folder of rnagan serve-reader-study, --article the scores that the article prints. Without any of them,
--difference and --sd plan a study.
"""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.option("--scores", type=options.PATH, help="CSV or TSV of answers.")
@click.option("--study", type=options.PATH, help="Folder of a study.")
@click.option("--database", type=options.TEXT, help="SQLAlchemy URL of the study's answers, if they aren't there.")
@click.option("--article", is_flag=True, help="The article's own scores, beside its own figures.")
@click.option("--out", type=options.PATH, help="Folder of tables, figure6.png and report.html.")
@click.option("--lowest", type=float, default=0.0, help="Lowest quality that --scores may hold.")
@click.option("--highest", type=float, default=5.0, help="Highest quality that --scores may hold.")
@click.option("--difference", type=float, help="Plan: the mean difference in quality that is to be found, in points.")
@click.option("--sd", type=float, help="Plan: SD over readers of that difference.")
@click.option("--alpha", type=float, default=0.05, help="Plan: level of the test.")
@click.option("--power", type=float, default=0.8, help="Plan: chance to find the difference.")
@click.option("--tests", type=click.IntRange(1), default=1, help="Plan: tests over which the level is divided.")
@click.option("--one-sided", is_flag=True, help="Plan: for a test on one side.")
@options.seed("Seed of the intervals of agreement.")
def main(
    scores: Path | None,
    study: Path | None,
    database: str | None,
    article: bool,
    out: Path | None,
    lowest: float,
    highest: float,
    difference: float | None,
    sd: float | None,
    alpha: float,
    power: float,
    tests: int,
    one_sided: bool,
    seed: int,
) -> None:
    given = [scores is not None, study is not None, article]
    if sum(given) > 1:
        raise click.UsageError("Give one of --scores, --study and --article.")
    if not any(given):
        if difference is None or sd is None:
            raise click.UsageError(
                "Give answers (--scores, --study or --article), or plan a study (--difference and --sd)."
            )
        from rnagan.apps.reader_tests import readers_needed

        sides = 1 if one_sided else 2
        needed = readers_needed(difference, sd, alpha / tests, power, sides)
        options.echo(
            f"{needed:,} readers find a difference of {difference:g} points (SD over readers {sd:g}) with a chance of "
            f"{power:.0%}: paired t-test on {'one side' if one_sided else 'both sides'} at level {alpha / tests:g}."
        )
        return
    if out is None:
        raise click.UsageError("Give --out, the folder of the analysis.")
    from rnagan.apps.reader_analysis import PAGE, analyse, lines
    from rnagan.apps.reader_scores import Scale, article_scores, read_scores

    if scores is not None:
        table, lead = read_scores(scores, Scale(lowest, highest).check()), f"Answers of {scores}."
        notes = ["How tiles were chosen isn't known of a table."]
    elif study is not None:
        from rnagan.apps.serving import answers_of

        table, tiles = answers_of(study, database)
        lead, notes = f"Answers of {study}.", [tiles.rule]
    else:
        table, lead = article_scores(), "The means by pathologist that Carrillo-Perez et al. 2023 print."
        notes = [
            "Tiles were curated: of ten random tiles a model and tissue the three best, without checkerboards, were "
            "chosen by eye."
        ]
    options.echo_lines(lines(analyse(table, out, lead, notes, article=article, seed=seed)))
    options.echo(f"\nReport: {out / PAGE}")


if __name__ == "__main__":
    main()
