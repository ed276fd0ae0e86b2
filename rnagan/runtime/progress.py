"""Progress of long work: a bar with rate and time left on a terminal, silence elsewhere."""

import sys

from tqdm import tqdm

from rnagan.io.visible import visible


def bar(total: int | None, unit: str, description: str, initial: int = 0, scale: bool = False) -> tqdm:
    """A progress bar counting `unit`s up to `total`; shows nothing when stderr is not a terminal.

    `scale` shows large numbers as k, M and G.
    """
    return tqdm(
        total=total,
        unit=unit,
        desc=visible(description),
        initial=initial,
        unit_scale=scale,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
    )


def say(text: str) -> None:
    """Print a line, or several, without tearing a running bar."""
    tqdm.write(visible(text), file=sys.stdout)
    sys.stdout.flush()
