"""Write an .h5ad of profiles as shards, from which the β-VAE can be trained.

Only profiles that the folder lacks are written. Run again with the same file, it does nothing.
"""

from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__, context_settings={"show_default": True})
@options.plain_errors
@click.option("--expression", type=options.PATH, required=True, help="An .h5ad (rnagan build-expression makes it).")
@options.out_folder("Folder of the shards; further profiles are added to it.")
@click.option("--per-shard", default=256, type=click.IntRange(1), help="Profiles of a shard, at most.")
@options.seed("Of the order in which profiles are dealt into shards.")
def main(expression: Path, out: Path, per_shard: int, seed: int) -> None:
    from rnagan.data.build_profiles import build_profiles

    options.echo_lines(build_profiles(expression, out, per_shard, seed))


if __name__ == "__main__":
    main()
