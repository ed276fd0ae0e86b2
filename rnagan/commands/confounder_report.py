"""What did a model learn beside morphology? Measures of generated and of real tiles against centre, ischaemic time, age
and sex, beside the RNA's programmes, and how much of their agreement is left when those are regressed out."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


def words(_context, _parameter, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table, with the covariates as columns.")
@click.option("--expression", type=Path, required=True, help="Expression .h5ad.")
@click.option("--truth", type=Path, help="Truth table of a simulated cohort, to compare with instead of real tiles.")
@click.option(
    "--covariates",
    callback=words,
    default="",
    help="Columns of the cohort table. [default: those of site,ischaemic_min,age,sex that it has]",
)
@click.option("--categories", callback=words, default="", help="Those of them whose numbers are labels.")
@click.option(
    "--programmes",
    type=Path,
    help="Table gene and, if there are several, programme; also loading. [default: the first units of the condition]",
)
@click.option("--out", type=Path, required=True, help="Folder for confounders.html, .json, .csv and .png.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--n", type=click.IntRange(min=1), default=12, show_default=True, help="Tiles a profile.")
@click.option(
    "--draws", type=click.IntRange(min=99), default=1999, show_default=True, help="Of permutations and bootstraps."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plain_errors
def main(
    model: Path,
    shards: str,
    cohort: Path,
    expression: Path,
    truth: Path | None,
    covariates: tuple[str, ...],
    categories: tuple[str, ...],
    programmes: Path | None,
    out: Path,
    split: str,
    n: int,
    draws: int,
    seed: int,
) -> None:
    from rnagan.evaluation.confounder_report import Asked, confounder_report
    from rnagan.evaluation.faithfulness import EvaluationInputs

    inputs = EvaluationInputs(model, shards, cohort, expression, truth)
    asked = Asked(covariates, categories, programmes, split, n, seed, draws)
    for line in confounder_report(inputs, asked, out):
        click.echo(line)


if __name__ == "__main__":
    main()
