"""Check a GPU in at most 8 minutes: is it right, how fast is it, and does a run on it stop and go on.

What is found is in --out after each check, whatever becomes of the others. Exit code 1 if one failed.
"""

import sys
from pathlib import Path

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@click.option(
    "--out", type=options.NEW_FILE, default=Path("gpu.json"), show_default=True, help="File of what is found."
)
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="cpu: the same checks at small size, but for those of GPUs alone.",
)
@click.option("--quick", is_flag=True, help="Small sizes on a GPU too.")
@click.option("--check", "names", type=options.TEXT, multiple=True, help="Only this check; may be repeated.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=8.0,
    show_default=True,
    help="Bound on all of it; what has no time left is left out.",
)
def main(out: Path, device: str, quick: bool, names: tuple[str, ...], minutes: float) -> None:
    from rnagan.doctor.gpu.session import Session, check_device, passed, with_what_they_need

    names = with_what_they_need(names)
    check_device(device)
    found = Session(device, quick or device == "cpu", names, minutes).run(out, options.echo)
    options.echo(f"{found['seconds']:.0f} s; all of it is in {out}.")
    sys.exit(0 if passed(found) else 1)


if __name__ == "__main__":
    main()
