"""Write a model as a folder that can be given away, with a model card; push it to a Hugging Face hub if asked.

Whoever has it opens it by its folder, or by hf:OWNER/NAME wherever --model is asked for.
"""

from pathlib import Path
from typing import Any

import click

from rnagan.commands import options


@click.command(help=__doc__)
@options.plain_errors
@options.model()
@click.option("--out", required=True, type=options.NEW_FOLDER, help="Folder for README.md, the card, and model/.")
@click.option("--name", type=options.TEXT, required=True, help="What the model is called.")
@click.option("--licence", type=options.TEXT, required=True, help="Its licence, as apache-2.0 or cc-by-nc-4.0.")
@click.option("--data", type=options.TEXT, required=True, help="Where its data are from, and under which terms.")
@click.option("--use", type=options.TEXT, help="What it is meant for.")
@click.option(
    "--evaluation",
    "evaluations",
    type=options.PATH,
    multiple=True,
    help="Folder of an evaluation of it, whose figures the card gives; may be repeated.",
)
@click.option(
    "--most-auc",
    type=click.FloatRange(0.5, 1),
    help="Refuse where the privacy audit (among the evaluations) finds members with a higher AUC.",
)
@click.option("--push", "push_to", type=options.TEXT, metavar="OWNER/NAME", help="Also push it there, as private.")
def main(model: Path, out: Path, use: str | None, push_to: str | None, **given: Any) -> None:
    from rnagan.export import Card, export_model

    named = {name: given.pop(name) for name in ("name", "licence", "data")} | ({"use": use} if use else {})
    options.echo_lines(export_model(model, out, Card(**named), push_to=push_to, **given))


if __name__ == "__main__":
    main()
