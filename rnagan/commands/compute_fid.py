"""Compute FID-60k of a trained model, with KID, precision and recall, and Inception Score.

Tiles that are generated for a split's profiles are compared with the split's real tiles. The floor, which real
tiles of other donors reach, and an interval over donors are reported too.
"""

import os
from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@options.tiles()
@options.out_folder("Folder for fid.json and features.png.")
@options.split()
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
    help="inception_v3 (FID) or dinov2; offline, with scores of their own names: efficientnet_lite0, "
    "efficientnet_lite2 or handmade (stain, grain and edges, by no network); or your own as module:function. One that "
    "the critic had in training flatters the model: the scores say so.",
)
@click.option("--weights", type=options.PATH, help="Inception's file, or DINOv2's folder, instead of fetching them.")
@options.seed()
@options.sampling()
@click.option(
    "--map-tiles",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Tiles of either kind in the UMAP; 0: none.",
)
@click.option(
    "--cache",
    type=options.PATH,
    help="Folder of real tiles' features, for later evaluations.  [default: ~/.cache/rnagan/features]",
)
def main(
    model: Path,
    out: Path,
    split: str,
    count: int,
    extractor: str,
    weights: Path | None,
    seed: int,
    map_tiles: int,
    cache: Path | None,
    sampling: Any,
    **inputs: Any,
) -> None:
    from rnagan.evaluation.features import make_extractor
    from rnagan.evaluation.fid import RESULT, compute_fid
    from rnagan.evaluation.test_set import EvaluationInputs
    from rnagan.reports.console import score_lines
    from rnagan.runtime.distributed import processes
    from rnagan.training.launch import end_together, start

    accelerator = start("float32", seed)
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rnagan" / "features"
    result = compute_fid(
        EvaluationInputs(model, **inputs),
        out,
        make_extractor(extractor, weights, accelerator.device),
        cache,
        processes(),
        split=split,
        count=count,
        seed=seed,
        options=sampling,
        map_tiles=map_tiles,
        device=accelerator.device,
    )
    if accelerator.is_main_process:
        options.echo_lines(score_lines(result))
        options.echo(f"\n{out / RESULT}")
    end_together(accelerator, wait=False)


if __name__ == "__main__":
    main()
