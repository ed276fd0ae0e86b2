"""What a build of shards says at its end, and its exit code: the same of slides and of sections."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnagan.commands import options

if TYPE_CHECKING:
    from rnagan.data.build_jobs import BuildOptions, Summary

SOME_FAILED, GIVEN_UP, MANY_WITHOUT_TILES = 1, 3, 4  # exit codes
LISTED = 20  # failures, and slides without tiles, that are printed one by one


def report_build(
    context: click.Context, summary: "Summary", out: Path, how: "BuildOptions", max_without_tiles: float
) -> None:
    """Print what was damaged, failed or is doubtful, and the summary; exit with a code above 0 where some failed, or
    more than the share `max_without_tiles` gave no tile."""
    for slide, problem in list(summary.damaged.items())[:LISTED]:
        outcome = "couldn't be made again" if slide in summary.failures else "was made again"
        options.echo(f"Warning: {problem}; {slide} {outcome}.", err=True)
    if len(summary.damaged) > LISTED:
        options.echo(f"… and {len(summary.damaged) - LISTED:,} more were damaged.", err=True)
    for slide, failure in list(summary.failures.items())[:LISTED]:
        options.echo(f"{slide} failed: {failure.sentence}", err=True)
    if len(summary.failures) > LISTED:
        options.echo(
            f"… and {len(summary.failures) - LISTED:,} more, all in {out}/failures{how.part_name}.csv", err=True
        )
    for slide, reason in list(summary.empty.items())[:LISTED]:
        options.echo(f"Warning: {slide} gives no tile: {reason}.", err=True)
    if len(summary.empty) > LISTED:
        options.echo(f"… and {len(summary.empty) - LISTED:,} more give no tile.", err=True)
    for slide, doubts in list(summary.warnings.items())[:LISTED]:
        options.echo(f"Warning: {slide}: {'; '.join(doubts)}.", err=True)
    if len(summary.warnings) > LISTED:
        options.echo(f"… and warnings of {len(summary.warnings) - LISTED:,} more, in their records.", err=True)
    options.echo(f"{out}: {summary}")
    if summary.not_begun:
        context.exit(GIVEN_UP)
    if summary.failures:
        context.exit(SOME_FAILED)
    if summary.share_empty > max_without_tiles:
        options.echo(
            f"{summary.share_empty:.0%} of the slides give no tile, more than --max-without-tiles allows "
            f"({max_without_tiles:.0%}). Look at {out}/qc and at --dry-run.",
            err=True,
        )
        context.exit(MANY_WITHOUT_TILES)
