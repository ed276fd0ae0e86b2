"""What a trained β-VAE can do with profiles: reconstruct, sample, shift, interpolate, perturb.

Each command writes an .h5ad in the model's genes and units, which rnagan generate-tiles takes.
"""

from collections.abc import Callable
from pathlib import Path

import click

from rnagan.commands.options import plain_errors

_VAE = click.option("--vae", type=Path, required=True, help="Run of rnagan train-vae, its model folder, or an RNA-GAN.")
_PROFILES = click.option("--profiles", type=Path, required=True, help="Profiles as .h5ad, in the units of the model.")
_OUT = click.option("--out", type=Path, required=True, help="The .h5ad to write.")
_REAL = click.option("--keep-real", is_flag=True, help="Write the profiles that it was made from too, as origin real.")


def _choice(command: Callable) -> Callable:
    for option in (
        click.option("--sample", "samples", multiple=True, help="Only this profile; may be repeated."),
        click.option("--tissue", help="Only profiles of this tissue."),
        click.option(
            "--split", type=click.Choice(["train", "validation", "test"]), help="Only profiles of this split."
        ),
        _PROFILES,
        _VAE,
    ):
        command = option(command)
    return command


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@_choice
@_OUT
@_REAL
@plain_errors
def reconstruct(
    vae: Path,
    profiles: Path,
    split: str | None,
    tissue: str | None,
    samples: tuple[str, ...],
    out: Path,
    keep_real: bool,
) -> None:
    """Encode and decode profiles."""
    from rnagan.latent.edited_profiles import Choice, write_reconstructed

    _tell(write_reconstructed(vae, Choice(profiles, split, samples, tissue), out, keep_real))


@main.command()
@_VAE
@click.option("--tissue", "tissues", multiple=True, help="Draw this tissue; may be repeated. [default: all]")
@click.option("--n", type=click.IntRange(min=1), default=20, show_default=True, help="Profiles a tissue.")
@click.option(
    "--spread",
    type=click.Choice(["tissue", "prior"]),
    default="tissue",
    show_default=True,
    help="Scatter around the centroid: that of the training profiles, or N(0, 1) as in the article, which is wider.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_OUT
@plain_errors
def sample(vae: Path, tissues: tuple[str, ...], n: int, spread: str, seed: int, out: Path) -> None:
    """Draw new profiles around the centroid of a tissue."""
    from rnagan.latent.edited_profiles import write_sampled

    _tell(write_sampled(vae, tissues, n, spread, seed, out))


@main.command()
@_choice
@click.option("--to", required=True, help="Tissue to move them to.")
@click.option("--from", "source", help="The model's tissue that they are of, where the file calls it otherwise.")
@_OUT
@_REAL
@plain_errors
def shift(
    vae: Path,
    profiles: Path,
    split: str | None,
    tissue: str | None,
    samples: tuple[str, ...],
    to: str,
    source: str | None,
    out: Path,
    keep_real: bool,
) -> None:
    """Move profiles from their tissue to another, by the difference of the centroids."""
    from rnagan.latent.edited_profiles import Choice, write_shifted

    _tell(write_shifted(vae, Choice(profiles, split, samples, tissue), to, source, out, keep_real))


@main.command()
@_VAE
@_PROFILES
@click.option("--start", required=True, help="Profile to start from.")
@click.option("--end", required=True, help="Profile to end at.")
@click.option("--steps", type=click.IntRange(min=2), default=8, show_default=True, help="Profiles, with both ends.")
@_OUT
@_REAL
@plain_errors
def interpolate(vae: Path, profiles: Path, start: str, end: str, steps: int, out: Path, keep_real: bool) -> None:
    """Walk from one profile to another in the latent."""
    from rnagan.latent.edited_profiles import write_interpolated

    _tell(write_interpolated(vae, profiles, start, end, steps, out, keep_real))


@main.command()
@_choice
@click.option("--genes", required=True, help="Ids or symbols with commas between, or a file with one a line.")
@click.option("--by", type=float, required=True, help="How far up, or down where negative.")
@click.option(
    "--scale",
    type=click.Choice(["sd", "log"]),
    default="sd",
    show_default=True,
    help="Unit of --by: SDs of the training split, or log units (ln, or log2 where the data are).",
)
@click.option("--input-alone", is_flag=True, help="Move these genes only; the others stay as they were.")
@_OUT
@_REAL
@plain_errors
def perturb(
    vae: Path,
    profiles: Path,
    split: str | None,
    tissue: str | None,
    samples: tuple[str, ...],
    genes: str,
    by: float,
    scale: str,
    input_alone: bool,
    out: Path,
    keep_real: bool,
) -> None:
    """Move genes up or down, let the others follow, and write how every gene changed beside the profiles."""
    from rnagan.latent.edited_profiles import Choice, write_perturbed

    choice = Choice(profiles, split, samples, tissue)
    _tell(write_perturbed(vae, choice, genes, by, scale, out, input_alone, keep_real))


def _tell(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    main()
