"""Compare tiles painted for held-out donors with their real tiles and, on a simulated cohort, with the truth."""

from pathlib import Path

import click

from rnagan.cli import plain_errors


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of tools/train_rnagan.py, or its model folder.")
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table.")
@click.option("--expression", type=Path, required=True, help="Expression .h5ad.")
@click.option("--truth", type=Path, help="Truth table of a simulated cohort (truth.csv).")
@click.option("--out", type=Path, required=True, help="Folder for evaluation.json and the pictures.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--n", type=click.IntRange(min=1), default=12, show_default=True, help="Tiles a profile.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plain_errors
def main(
    model: Path,
    shards: str,
    cohort: Path,
    expression: Path,
    truth: Path | None,
    out: Path,
    split: str,
    n: int,
    seed: int,
) -> None:
    from rnagan.evaluation.evaluate import EvaluationInputs, evaluate

    result = evaluate(EvaluationInputs(model, shards, cohort, expression, truth), out, split, n, seed)
    real = result["tissue_accuracy_real"]
    told = "none were there" if real is None else f"{real:.1%}"
    click.echo(f"Tissue called right on {result['tissue_accuracy']:.1%} of painted tiles; of real ones: {told}.")
    for tissue, measures in result.get("faithfulness", {}).items():
        for name, found in measures.items():
            ceiling = "none" if found["ceiling"] is None else f"{found['ceiling']:+.2f}"
            click.echo(
                f"{tissue:12} {name:16} r {found['r']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})  "
                f"slope {found['slope']:+.2f}  ceiling {ceiling}  p {found['p']:.4f}"
            )


if __name__ == "__main__":
    main()
