"""What a build of shards may lose, what it says at its end, and its exit code: the same of slides and of sections."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnagan.commands import options

if TYPE_CHECKING:
    from rnagan.data.build_jobs import BuildOptions, Summary

SOME_FAILED, GIVEN_UP, MANY_WITHOUT_TILES = 1, 3, 4  # exit codes
LISTED = 20  # failures, and slides without tiles, that are printed one by one


def build_limits(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of a build: verify, max_failures, max_without_tiles, max_unreadable. `what` it is made of, as slide."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        added = (
            click.option(
                "--verify",
                is_flag=True,
                help="Read every byte of the shards that are there, and make damaged ones again.",
            ),
            click.option("--max-failures", default=0, type=click.IntRange(0), help="Give up after so many; 0: never."),
            click.option(
                "--max-without-tiles",
                default=0.2,
                type=click.FloatRange(0, 1),
                help=f"Share of the {what}s that may give no tile; the exit code is 4 if there are more.",
            ),
            click.option(
                "--max-unreadable",
                default=0.25,
                type=click.FloatRange(0, 1),
                help=f"Share of a {what}'s tiles that may be unreadable in a damaged file; with more it fails.",
            ),
        )
        for option in reversed(added):
            command = option(command)
        return command

    return add


def report_build(
    context: click.Context, summary: "Summary", out: Path, how: "BuildOptions", max_without_tiles: float
) -> None:
    """Print what was damaged, failed or is doubtful, and the summary; exit with a code above 0 where some failed, or
    more than the share `max_without_tiles` gave no tile."""
    again = {
        slide: "couldn't be made again" if slide in summary.failures else "was made again" for slide in summary.damaged
    }
    _list(
        [f"Warning: {said}; {slide} {again[slide]}." for slide, said in summary.damaged.items()], "more were damaged."
    )
    failed = [f"{slide} failed: {failure.sentence}" for slide, failure in summary.failures.items()]
    _list(failed, f"more, all in {out}/failures{how.part_name}.csv")
    _list([f"Warning: {slide} gives no tile: {said}." for slide, said in summary.empty.items()], "more give no tile.")
    doubts = [f"Warning: {slide}: {'; '.join(said)}." for slide, said in summary.warnings.items()]
    _list(doubts, "more have warnings, in their records.")
    options.echo(f"{out}: {summary}")
    if summary.not_begun:
        context.exit(GIVEN_UP)
    if summary.failures:
        context.exit(SOME_FAILED)
    if summary.share_empty > max_without_tiles:
        dry_run = " and at --dry-run" if any(option.name == "dry_run" for option in context.command.params) else ""
        options.echo(
            f"{summary.share_empty:.0%} of the slides give no tile, more than --max-without-tiles allows "
            f"({max_without_tiles:.0%}). Look at {out}/qc{dry_run}.",
            err=True,
        )
        context.exit(MANY_WITHOUT_TILES)


def _list(lines: list[str], more: str) -> None:
    """Print the first LISTED lines, and how many `more` there are."""
    for line in lines[:LISTED]:
        options.echo(line, err=True)
    if len(lines) > LISTED:
        options.echo(f"… and {len(lines) - LISTED:,} {more}", err=True)
