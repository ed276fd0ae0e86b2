"""Are generated tiles copies? Their nearest real training tiles, beside those of real tiles that weren't trained on."""

from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table.")
@click.option("--expression", type=Path, help="Expression .h5ad; not for modes gan and noise_only.")
@click.option("--out", type=Path, required=True, help="Folder for nearest.json and nearest.png.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@click.option("--tiles", type=click.IntRange(min=3), default=400, show_default=True, help="Generated tiles, about.")
@click.option(
    "--training-tiles", type=click.IntRange(min=1), default=20_000, show_default=True, help="To compare with, at most."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plain_errors
def main(
    model: Path,
    shards: str,
    cohort: Path,
    expression: Path | None,
    out: Path,
    split: str,
    tiles: int,
    training_tiles: int,
    seed: int,
) -> None:
    from rnagan.evaluation.memorization import nearest_tiles
    from rnagan.evaluation.test_set import TileInputs

    inputs = TileInputs(shards, cohort, expression)
    found = nearest_tiles(model, inputs, out, split, tiles, training_tiles, seed)
    click.echo(
        f"{found['share']:.1%} of {found['generated']:,} generated tiles are nearer to one of "
        f"{found['training_tiles']:,} training tiles than 99% of real tiles of split {split} are (1% expected); "
        f"median distance {found['ratio']:.2f} times theirs."
    )
    copies = found["copies"]
    click.echo(f"{len(copies):,} of them are called copies.")
    for copy in copies[:10]:
        click.echo(
            f"  {copy['generated']} of {copy['training']} (closeness {copy['closeness']:.2f}, p {copy['p']:.1e})"
        )


if __name__ == "__main__":
    main()
