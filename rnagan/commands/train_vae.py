"""Train the β-VAE on expression profiles, also under accelerate launch.

Run again with the same settings, it goes on where it stopped.
Several processes: accelerate launch --config_file … -m rnagan.commands.train_vae …
"""

from pathlib import Path

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.vae import VAEConfig


@click.command(help=__doc__)
@options.plain_errors
@click.option(
    "--expression",
    type=options.FOLDER_OR_URL,
    required=True,
    help="The .h5ad of rnagan build-expression, or a folder or URL of rnagan build-profiles, which is streamed.",
)
@click.option("--cohort", type=options.PATH, help="Cohort table with donor, tissue and split of streamed profiles.")
@options.out("Folder of the run; the product is its folder model.")
@options.dry_run("Print the resolved settings, profiles and steps, and stop.")
@config_of(VAEConfig, "faithful", tagged=True)
def main(
    expression: str, cohort: Path | None, out: Path, dry_run: bool, config: VAEConfig, tags: dict[str, str]
) -> None:
    from rnagan.training.vae.data import VAEInputs
    from rnagan.training.vae.train import describe, train_vae

    inputs = VAEInputs(expression, cohort)
    if dry_run:
        options.echo_settings(config)
        options.echo_lines(describe(config, inputs))
    else:
        options.end_run(train_vae(config, inputs, out, tags))


if __name__ == "__main__":
    main()
