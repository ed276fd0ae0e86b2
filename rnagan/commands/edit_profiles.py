"""Reconstruct, sample, shift, interpolate or perturb profiles with a trained β-VAE.

Each command writes an .h5ad in the model's genes and units, which rnagan generate-tiles takes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnagan.commands import options

if TYPE_CHECKING:
    from rnagan.latent.edited_profiles import Choice

_OUT_AND_DEVICE = options.group(options.device(), options.out("The .h5ad to write."))
_REAL = click.option("--keep-real", is_flag=True, help="Write the profiles that it was made from too, as origin real.")
_CHOSEN = options.group(options.vae(), options.profiles())


def _choice(profiles: Path, split: str | None, tissue: str | None, samples: tuple[str, ...]) -> "Choice":
    from rnagan.latent.edited_profiles import Choice

    return Choice(profiles, split, samples, tissue)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@options.plain_errors
@_CHOSEN
@_OUT_AND_DEVICE
@_REAL
def reconstruct(vae: Path, out: Path, keep_real: bool, device: Any, **chosen: Any) -> None:
    """Encode and decode profiles."""
    from rnagan.latent.edited_profiles import write_reconstructed

    options.echo_lines(write_reconstructed(vae, _choice(**chosen), out, keep_real, device))


@main.command()
@options.plain_errors
@options.vae()
@click.option(
    "--tissue", "tissues", multiple=True, type=options.TEXT, help="Draw this tissue; may be repeated. [default: all]"
)
@options.n(20, "Profiles a tissue.")
@click.option(
    "--spread",
    type=click.Choice(["tissue", "prior"]),
    default="tissue",
    show_default=True,
    help="Scatter around the centroid: that of the training profiles, or N(0, 1) as in the article, which is wider.",
)
@options.seed()
@_OUT_AND_DEVICE
def sample(vae: Path, tissues: tuple[str, ...], n: int, spread: str, seed: int, out: Path, device: Any) -> None:
    """Draw new profiles around the centroid of a tissue."""
    from rnagan.latent.edited_profiles import write_sampled

    options.echo_lines(write_sampled(vae, tissues, n, spread, seed, out, device))


@main.command()
@options.plain_errors
@_CHOSEN
@click.option("--to", required=True, type=options.TEXT, help="Tissue to move them to.")
@click.option(
    "--from",
    "source",
    type=options.TEXT,
    help="The model's tissue that they are of, where the file calls it otherwise.",
)
@_OUT_AND_DEVICE
@_REAL
def shift(vae: Path, to: str, source: str | None, out: Path, keep_real: bool, device: Any, **chosen: Any) -> None:
    """Move profiles from their tissue to another, by the difference of the centroids."""
    from rnagan.latent.edited_profiles import write_shifted

    options.echo_lines(write_shifted(vae, _choice(**chosen), to, source, out, keep_real, device))


@main.command()
@options.plain_errors
@options.vae()
@click.option("--profiles", type=options.PATH, required=True, help="Profiles as .h5ad, in units that the model takes.")
@click.option("--start", required=True, type=options.TEXT, help="Profile to start from.")
@click.option("--end", required=True, type=options.TEXT, help="Profile to end at.")
@click.option("--steps", type=click.IntRange(min=2), default=8, show_default=True, help="Profiles, with both ends.")
@_OUT_AND_DEVICE
@_REAL
def interpolate(
    vae: Path, profiles: Path, start: str, end: str, steps: int, out: Path, keep_real: bool, device: Any
) -> None:
    """Walk from one profile to another in the latent."""
    from rnagan.latent.edited_profiles import write_interpolated

    options.echo_lines(write_interpolated(vae, profiles, start, end, steps, out, keep_real, device))


@main.command()
@options.plain_errors
@_CHOSEN
@click.option(
    "--genes", required=True, type=options.TEXT, help="Ids or symbols with commas between, or a file with one a line."
)
@click.option("--by", type=float, required=True, help="How far up, or down where negative.")
@click.option(
    "--scale",
    type=click.Choice(["sd", "log"]),
    default="sd",
    show_default=True,
    help="Unit of --by: SDs of the training split, or log units (ln, or log2 where the data are).",
)
@click.option("--input-alone", is_flag=True, help="Move these genes only; the others stay as they were.")
@_OUT_AND_DEVICE
@_REAL
def perturb(
    vae: Path,
    genes: str,
    by: float,
    scale: str,
    input_alone: bool,
    out: Path,
    keep_real: bool,
    device: Any,
    **chosen: Any,
) -> None:
    """Move genes up or down, let the others follow, and write how every gene changed beside the profiles."""
    from rnagan.latent.edited_profiles import write_perturbed

    choice = _choice(**chosen)
    options.echo_lines(write_perturbed(vae, choice, genes, by, scale, out, input_alone, keep_real, device))


if __name__ == "__main__":
    main()
