"""An .h5ad of profiles → shards of profiles that the β-VAE can be trained from."""

import click

from rnagan.commands.options import plain_errors


@click.command(context_settings={"show_default": True})
@click.option("--expression", type=click.Path(), required=True, help="An .h5ad (rnagan build-expression makes it).")
@click.option("--out", type=click.Path(), required=True, help="Folder of the shards; further profiles are added to it.")
@click.option("--per-shard", default=256, type=click.IntRange(1), help="Profiles of a shard, at most.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the order in which profiles are dealt into shards.")
@plain_errors
def main(expression: str, out: str, per_shard: int, seed: int) -> None:
    """Write the profiles that are not in the folder yet. Run again with the same file, it does nothing."""
    from pathlib import Path

    from rnagan.data.build_profiles import build_profiles

    for line in build_profiles(Path(expression), Path(out), per_shard, seed):
        click.echo(line)


if __name__ == "__main__":
    main()
