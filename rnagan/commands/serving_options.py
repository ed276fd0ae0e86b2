"""Options of the commands that serve pages: where the tiles come from, and where the server listens."""

import functools
from collections.abc import Callable
from typing import Any

import click

from rnagan.commands.options import PATH, TEXT, group, seed, split


def served_tiles(each: int) -> Callable:
    """Decorator: where the tiles of a quiz or study come from; the command receives `sources`, `curated` and
    `wanted`."""
    options = (
        click.option(
            "--source",
            "sources",
            type=TEXT,
            multiple=True,
            metavar="NAME=PATH",
            help="Tiles and what they are called (the real ones: real): a folder of images with one folder a tissue, "
            "shards, or a run of rnagan train-rnagan; repeated.",
        ),
        click.option("--curated", type=PATH, help="Instead: CSV of columns path, source, tissue; the report says so."),
        click.option("--each", type=click.IntRange(1), default=each, show_default=True, help="Tiles a source, tissue."),
        click.option(
            "--tile-px", type=click.IntRange(16, 1024), default=256, show_default=True, help="Side that all tiles get."
        ),
        click.option("--cohort", type=PATH, help="Cohort table, for shards."),
        click.option("--profiles", type=PATH, help="Profiles as .h5ad, for runs that take them."),
        split(),
        seed("Seed of the choice of tiles and of their order."),
        click.option(  # no `device()`, which imports PyTorch: only models need it
            "--device", type=TEXT, default="auto", show_default=True, help="Where models compute, as elsewhere."
        ),
    )

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(*args: Any, **kwargs: Any) -> Any:
            from rnagan.apps.tile_sources import Wanted

            names = ("each", "tile_px", "seed", "cohort", "profiles", "split", "device")
            return command(*args, wanted=Wanted(**{name: kwargs.pop(name) for name in names}), **kwargs)

        return group(*options)(gathered)

    return decorate


def served_at() -> Callable:
    """Decorator: where a server listens and what it writes into; the command receives `address` and `database`."""
    text = "SQLAlchemy URL of the answers, else a file in --out."
    return group(click.option("--database", type=TEXT, help=text), listens_at("Password of /admin"))


def listens_at(password: str) -> Callable:
    """Decorator: where a server listens; the command receives `address`. `password`: what the admin token is."""
    options = (
        click.option("--host", type=TEXT, default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port."),
        click.option(
            "--admin-token",
            type=TEXT,
            envvar="RNAGAN_ADMIN_TOKEN",
            help=f"{password}, needed with any --host but this machine's.  [env: RNAGAN_ADMIN_TOKEN]",
        ),
        click.option("--allow-host", "allow_hosts", type=TEXT, multiple=True, help="Other names of this server."),
    )

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(*args: Any, **kwargs: Any) -> Any:
            from rnagan.apps.shell import Address

            names = ("host", "port", "admin_token", "allow_hosts")
            return command(*args, address=Address(**{name: kwargs.pop(name) for name in names}), **kwargs)

        return group(*options)(gathered)

    return decorate
