"""Classify real tiles in cross-validation: from scratch, from SimCLR's or ImageNet's weights, or with generated tiles.

With --synthetic-share the training tiles are real ones, real ones with generated ones added, or generated ones alone.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options
from rnagan.commands.config_options import config_of
from rnagan.config.classifier import ClassifierConfig


def _numbers(kind: Any, low: float, high: float) -> Any:
    """Callback of an option that lists numbers with commas between, each once."""

    def parsed(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple:
        words = options.comma_separated(context, parameter, value)
        try:
            numbers = tuple(kind(word) for word in words)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no list of numbers with commas between.") from None
        if not all(low <= number <= high for number in numbers) or len(set(numbers)) < len(numbers):
            raise click.BadParameter(f"give numbers from {low:g} to {high:g}, each once, not {value!r}.")
        return numbers

    return parsed


@click.command(help=__doc__)
@options.plain_errors
@options.shards()
@click.option("--cohort", type=options.PATH, required=True, help="Cohort table; its column --label names the classes.")
@options.out_folder("Folder for results, pages, pictures, finished folds.")
@click.option(
    "--pretrained", type=options.PATH, help="Run of rnagan pretrain-simclr: the folds start from its weights too."
)
@click.option(
    "--imagenet", type=options.PATH, help="torchvision's weights as safetensors: the folds start from them too."
)
@click.option(
    "--synthetic-share",
    "shares",
    callback=_numbers(float, 0, 1),
    help="Shares of generated tiles in the training set, such as 0,0.5,1: real ones alone, as many generated ones "
    "added, generated ones alone.",
)
@click.option(
    "--real-donors",
    callback=_numbers(int, 0, 10_000),
    default="0",
    show_default=True,
    help="With --synthetic-share: donors of each class in a training set, such as 4,16,0; 0: all of a fold.",
)
@click.option(
    "--generator", type=options.PATH, help="With --synthetic-share: a run of a generator that has seen no donor here."
)
@click.option("--expression", type=options.PATH, help="With --synthetic-share: the profiles that it generates from.")
@options.dry_run("Print the resolved config, tiles and starts, train nothing.")
@options.device()
@config_of(ClassifierConfig, "paper")
def main(
    out: Path,
    dry_run: bool,
    config: ClassifierConfig,
    device: Any,
    shares: tuple[float, ...],
    real_donors: tuple[int, ...],
    generator: Path | None,
    expression: Path | None,
    **inputs: Any,
) -> None:
    if shares and (generator is None or expression is None):
        raise click.UsageError("--synthetic-share needs --generator, and --expression with its profiles.")
    if shares and not any(shares):
        raise click.UsageError("--synthetic-share needs a share above 0; real tiles alone take no generator.")
    if not shares and (generator is not None or expression is not None or real_donors != (0,)):
        raise click.UsageError("--generator, --expression and --real-donors belong to --synthetic-share.")
    if dry_run:
        options.echo_settings(config)
    if shares:
        from rnagan.classification.synthetic_shares import SyntheticInputs, synthetic_shares

        assert generator is not None and expression is not None
        given = SyntheticInputs(
            generator=generator, expression=expression, shares=shares, real_donors=real_donors or (0,), **inputs
        )
        options.echo_lines(synthetic_shares(config, given, out, dry_run, device))
        return
    from rnagan.classification.finetune import FinetuneInputs, finetune

    options.echo_lines(finetune(config, FinetuneInputs(**inputs), out, dry_run, device))


if __name__ == "__main__":
    main()
