"""Do tiles generated for held-out donors follow their profiles? Against the truth of a simulated cohort, or against the
donors' real tiles; is the right donor found; beside a null model and training donors."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option("--null", type=Path, help="Likewise, trained with --shuffle-profiles: what is shown beside the model.")
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table.")
@click.option("--expression", type=Path, required=True, help="Expression .h5ad.")
@click.option("--truth", type=Path, help="Truth table of a simulated cohort (truth.csv).")
@click.option("--out", type=Path, required=True, help="Folder for faithfulness.html, evaluation.json and the pictures.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--n", type=click.IntRange(min=1), default=12, show_default=True, help="Tiles a profile.")
@click.option(
    "--train-donors",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Training donors a tissue that are evaluated too, at most: learning by heart shows as a gap. 0: none.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plain_errors
def main(
    model: Path,
    null: Path | None,
    shards: str,
    cohort: Path,
    expression: Path,
    truth: Path | None,
    out: Path,
    split: str,
    n: int,
    train_donors: int,
    seed: int,
) -> None:
    from rnagan.evaluation.faithfulness import PAGE, EvaluationInputs, evaluate
    from rnagan.reports.console import lines

    inputs = EvaluationInputs(model, shards, cohort, expression, truth, null)
    for line in lines(evaluate(inputs, out, split, n, seed, train_donors)):
        click.echo(line)
    click.echo(f"\nPage: {out / PAGE}")


if __name__ == "__main__":
    main()
