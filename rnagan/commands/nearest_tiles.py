"""Find generated tiles that are copies of training tiles.

Their distance to the nearest training tile is compared with that of real tiles that weren't trained on.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.tiles()
@options.out_folder("Folder for nearest.json and nearest.png.")
@options.split("validation", "test")
@click.option("--tiles", type=click.IntRange(min=3), default=400, show_default=True, help="Generated tiles, about.")
@click.option(
    "--training-tiles", type=click.IntRange(min=1), default=20_000, show_default=True, help="To compare with, at most."
)
@options.seed()
@options.device()
def main(
    model: Path,
    out: Path,
    split: str,
    tiles: int,
    training_tiles: int,
    seed: int,
    device: Any,
    **inputs: Any,
) -> None:
    from rnagan.evaluation.memorization import nearest_tiles
    from rnagan.evaluation.test_set import EvaluationInputs
    from rnagan.reports.labels import network_label

    evaluated = EvaluationInputs(model, **inputs)
    found = nearest_tiles(evaluated, out, split, tiles, training_tiles, seed, device=device)
    options.echo(
        f"{found['share']:.1%} of {found['generated']:,} generated tiles are nearer to one of "
        f"{found['training_tiles']:,} training tiles than 99% of real tiles of split {split} are (1% expected); "
        f"median distance {found['ratio']:.2f} times theirs. Distances are those of {found['extractor']}, "
        f"{network_label(found['extractor_in_training'])}."
    )
    if "claim" in found:
        options.echo(found["claim"])
    copies = found["copies"]
    options.echo(f"{len(copies):,} of them are called copies.")
    for copy in copies[:10]:
        options.echo(
            f"  {copy['generated']} of {copy['training']} (closeness {copy['closeness']:.2f}, p {copy['p']:.1e})"
        )


if __name__ == "__main__":
    main()
