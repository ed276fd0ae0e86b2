"""FID-60k of a trained model and its kin (KID, precision and recall, Inception Score): tiles generated for a split's
profiles against the split's real tiles, with the floor of real against real and an interval over donors."""

import os
from pathlib import Path

import click

from rnagan.commands.options import plain_errors


@click.command(help=__doc__)
@click.option("--model", type=Path, required=True, help="Run of rnagan train-rnagan, or its model folder.")
@click.option("--shards", required=True, help="Folder of tile shards, or its URL.")
@click.option("--cohort", type=Path, required=True, help="Cohort table.")
@click.option("--expression", type=Path, help="Expression .h5ad; not for modes gan and noise_only.")
@click.option("--out", type=Path, required=True, help="Folder for fid.json and features.png.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option(
    "--tiles",
    "count",
    type=click.IntRange(min=2),
    default=60_000,
    show_default=True,
    help="Generated tiles; real ones: as many, or all of the split.",
)
@click.option(
    "--extractor",
    default="inception_v3",
    show_default=True,
    help="inception_v3 (FID), dinov2, efficientnet_lite0 (offline, its own score), or your own as module:function.",
)
@click.option("--weights", type=Path, help="Inception's file, or DINOv2's folder, instead of fetching them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--truncation", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True, help="Factor on noise."
)
@click.option(
    "--map-tiles",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Of either kind in the UMAP; 0: none.",
)
@click.option(
    "--cache",
    type=Path,
    help="Folder of real tiles' features, for later evaluations.  [default: ~/.cache/rnagan/features]",
)
@plain_errors
def main(
    model: Path,
    shards: str,
    cohort: Path,
    expression: Path | None,
    out: Path,
    split: str,
    count: int,
    extractor: str,
    weights: Path | None,
    seed: int,
    truncation: float,
    map_tiles: int,
    cache: Path | None,
) -> None:
    from rnagan.evaluation.features import make_extractor
    from rnagan.evaluation.fid import RESULT, compute_fid
    from rnagan.evaluation.test_set import TileInputs
    from rnagan.reports.console import score_lines
    from rnagan.runtime.distributed import processes
    from rnagan.training.launch import end_together, start

    accelerator = start("float32", seed)
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rnagan" / "features"
    result = compute_fid(
        model,
        TileInputs(shards, cohort, expression),
        out,
        make_extractor(extractor, weights, accelerator.device),
        cache,
        processes(),
        split=split,
        count=count,
        seed=seed,
        truncation=truncation,
        map_tiles=map_tiles,
        device=accelerator.device,
    )
    if accelerator.is_main_process:
        for line in score_lines(result):
            click.echo(line)
        click.echo(f"\n{out / RESULT}")
    end_together(accelerator, wait=False)


if __name__ == "__main__":
    main()
