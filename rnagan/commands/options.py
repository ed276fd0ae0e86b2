"""What the commands share: groups of options, and one sentence for a user's mistake.

Each group is a decorator. Its options reach the command as keywords of the same names, unless the group says otherwise.
"""

import contextlib
import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

# Threads that spin while they wait starve one another on a shared machine (ten times slower, measured). It must be set
# before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rnagan.config.base import Config
from rnagan.io.bounds import MAX_SEED
from rnagan.io.disk_errors import in_words
from rnagan.io.visible import visible
from rnagan.runtime.ends import STOPPED, answered_signals
from rnagan.runtime.folder_lock import locked
from rnagan.runtime.workers import Workers


class _Path(click.Path):
    """A path that isn't empty: an empty one would be the current folder, where a variable of a shell wasn't set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_not_empty(self, value, param, ctx), param, ctx)


class _Text(click.types.StringParamType):
    """A text that isn't empty: an empty name would choose nothing, or everything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_not_empty(self, value, param, ctx), param, ctx)


def _not_empty(kind: click.ParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    if value == "":
        kind.fail("it is empty; was a variable of the shell not set?", param, ctx)
    return value


PATH = _Path(path_type=Path)
FILE = _Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = _Path(exists=True, file_okay=False, path_type=Path)
FILE_OR_FOLDER = _Path(exists=True, path_type=Path)
NEW_FILE = _Path(dir_okay=False, path_type=Path)
NEW_FOLDER = _Path(file_okay=False, path_type=Path)
TEXT = FOLDER_OR_URL = _Text()
MOST = 2**63 - 1  # what an integer may be: PyTorch, NumPy and Arrow count no further
DEALT_SPLITS = ("train", "validation", "test")
SPLITS = (*DEALT_SPLITS, "left_out")


def group(*options: Callable) -> Callable:
    """Decorator: several options, in the order in which the help shows them."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def out(text: str) -> Callable:
    return click.option("--out", type=PATH, required=True, help=text)


def out_folder(text: str) -> Callable:
    """Decorator: --out, a folder that the command holds while it runs, but for a dry run: nobody else writes there."""

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def held(*args: Any, out: Path, **kwargs: Any) -> Any:
            if kwargs.get("dry_run") or os.environ.get("RANK", "0") != "0":  # of several processes the first holds it
                return command(*args, out=out, **kwargs)
            with locked(out, click.get_current_context().command_path):
                return command(*args, out=out, **kwargs)

        return out(text)(held)

    return decorate


def n(default: int, text: str, least: int = 1) -> Callable:
    return click.option("--n", type=click.IntRange(min=least), default=default, show_default=True, help=text)


def seed(text: str | None = None) -> Callable:
    return click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help=text)


def split(*splits: str) -> Callable:
    """The split that is evaluated: test by default."""
    choice = click.Choice(splits or SPLITS)
    return click.option("--split", type=choice, default="test", show_default=True, help="Split that is evaluated.")


def sampling() -> Callable:
    """Decorator: how tiles are generated; the command receives `sampling`, a `SamplingOptions`."""
    choices = group(
        click.option(
            "--truncation",
            type=click.FloatRange(0, 1, min_open=True),
            help="Factor on all noise: below 1, more typical and less varied tiles.  [default: 1]",
        ),
        click.option(
            "--guidance",
            type=click.FloatRange(0, 20),
            help="Of a flow: above 1, tiles that show their profile more strongly.  [default: the model's own]",
        ),
        click.option(
            "--sampling-steps",
            type=click.IntRange(1, 1000),
            help="Of a flow: steps of its solver.  [default: the model's own]",
        ),
        click.option("--solver", type=click.Choice(["euler", "heun"]), help="Of a flow.  [default: the model's own]"),
    )

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(
            *args: Any,
            truncation: float | None,
            guidance: float | None,
            sampling_steps: int | None,
            solver: str | None,
            **kwargs: Any,
        ) -> Any:
            from rnagan.models.tile_generator import SamplingOptions

            given = SamplingOptions(truncation, guidance, sampling_steps, solver)
            return command(*args, sampling=given, **kwargs)

        return choices(gathered)

    return decorate


def model(multiple: bool = False, required: bool = True) -> Callable:
    """A trained GAN or RNA-GAN; with `multiple` the command receives them as `models`."""
    names, more = (("--model", "models"), "; may be repeated") if multiple else (("--model",), "")
    text = f"Run of rnagan train-rnagan, its model folder, or hf:OWNER/NAME of a model on the hub{more}."
    return click.option(*names, type=PATH, required=required, multiple=multiple, callback=_from_hub, help=text)


def _from_hub(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """The folder of a model that is named by its id on the hub; other paths as they are."""
    from rnagan.io.hub import PREFIX, fetched

    def local(path: Path) -> Path:
        if not str(path).startswith(PREFIX):
            return path
        try:
            return fetched(str(path))
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return tuple(map(local, value)) if isinstance(value, tuple) else local(value)


def device() -> Callable:
    """Decorator: --device; the command receives it as a `torch.device`."""

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(*args: Any, device: str, **kwargs: Any) -> Any:
            from rnagan.runtime.devices import choose_device, set_arithmetic

            chosen = choose_device(device)
            set_arithmetic(chosen)
            return command(*args, device=chosen, **kwargs)

        text = "Where networks compute: cpu, cuda, cuda:1 (the second GPU) or mps; auto: a GPU where there is one."
        return click.option("--device", default="auto", show_default=True, help=text)(gathered)

    return decorate


def vae(text: str = "Run of rnagan train-vae, its model folder, or an RNA-GAN.", required: bool = True) -> Callable:
    return click.option("--vae", type=PATH, required=required, help=text)


def embedding() -> Callable:
    text = "In place of --vae: a matrix in the profiles' .h5ad, a row for each, such as a foundation model's."
    return click.option("--embedding", metavar="obsm:KEY", help=text)


def truth() -> Callable:
    return click.option("--truth", type=PATH, help="Truth table of a simulated cohort (truth.csv).")


def shards(made_by: str = "rnagan build-tiles") -> Callable:
    return click.option(
        "--shards", type=FOLDER_OR_URL, required=True, help=f"Folder of tile shards, or its URL ({made_by})."
    )


def cohort() -> Callable:
    return click.option("--cohort", type=PATH, required=True, help="Cohort table (rnagan build-cohort).")


def tiles(expression_required: bool = False) -> Callable:
    """Real tiles with their profiles: --shards, --cohort and --expression."""
    unless = "" if expression_required else "; not for modes gan and noise_only"
    text = f"Expression .h5ad (rnagan build-expression){unless}."
    expression = click.option("--expression", type=PATH, required=expression_required, help=text)
    return group(shards(), cohort(), expression)


def profiles(
    tissue: bool = True, required: bool = True, unless: str = "; not for modes gan and noise_only"
) -> Callable:
    """Profiles, and which of them: --profiles, --split, --tissue and, as `samples`, --sample. `unless`: when they
    aren't needed, where they aren't `required`."""
    unless = "" if required else unless
    text = f"Profiles as .h5ad (rnagan build-expression){unless}."
    by_tissue = (click.option("--tissue", type=TEXT, help="Only profiles of this tissue."),) if tissue else ()
    return group(
        click.option("--profiles", type=PATH, required=required, help=text),
        click.option("--split", type=click.Choice(SPLITS), help="Only profiles of this split."),
        *by_tissue,
        click.option("--sample", "samples", type=TEXT, multiple=True, help="Only this profile; may be repeated."),
    )


def launch() -> Callable:
    text = "Config of accelerate's launcher (launch_configs/…); without it, one process."
    return click.option("--launch", type=PATH, help=text)


def dry_run(text: str) -> Callable:
    return click.option("--dry-run", is_flag=True, help=text)


def workers(default_processes: int) -> Callable:
    """Decorator: the options that say where jobs run; the command receives them as keyword `workers`."""
    options = (
        click.option("--processes", type=click.IntRange(1), default=default_processes, help="Worker processes here."),
        click.option(
            "--scheduler", metavar="ADDRESS", help="A running Dask scheduler instead, such as tcp://node1:8786."
        ),
        click.option(
            "--slurm",
            type=FILE,
            help="SLURM jobs as workers instead: a YAML file of dask-jobqueue's SLURMCluster settings, and jobs: N.",
        ),
    )

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(*args: Any, processes: int, scheduler: str | None, slurm: Path | None, **kwargs: Any) -> Any:
            return command(*args, workers=Workers(processes, scheduler, slurm), **kwargs)

        return group(*options)(gathered)

    return decorate


def comma_separated(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Callback of an option whose value lists words with commas between."""
    return tuple(word.strip() for word in (value or "").split(",") if word.strip())


def echo(text: str, err: bool = False) -> None:
    """Print a text whose names may hold anything."""
    click.echo(visible(text), err=err)


def echo_lines(lines: Iterable[str]) -> None:
    for line in lines:
        echo(line)


def echo_settings(config: Config) -> None:
    """Print a resolved config, one setting a line, as a dry run does."""
    echo_lines(f"{name}: {value}" for name, value in config.to_dict().items())


def end_run(finished: bool) -> None:
    """End the command; exit code 75 says that a signal stopped the run, which goes on when it is started again."""
    if not finished:
        sys.exit(STOPPED)


@contextlib.contextmanager
def _warnings_without_code() -> Iterator[None]:
    """Warnings that users are given are shown without the line of code that gives them."""
    usual = warnings.formatwarning

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        is_for_users = category is UserWarning
        return (
            f"Warning: {visible(str(message))}\n" if is_for_users else usual(message, category, filename, lineno, line)
        )

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


def plain_errors(command: Callable) -> Callable:
    """Decorator: `ValueError` and `OSError` become one sentence and exit code 1, a warning is one sentence too, and a
    signal ends the command as rnagan/runtime/ends.py says."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with answered_signals(), _warnings_without_code():
            try:
                return command(*args, **kwargs)
            except OSError as error:
                raise click.ClickException(in_words(error)) from None
            except ValueError as error:
                raise click.ClickException(str(error)) from None

    return _checked(wrapped)


def _checked(command: Callable) -> Callable:
    """Decorator: no option is a number that is none, infinite, or beyond what is counted, all of which click lets pass;
    and an error is one line, whatever names are in it."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        for parameter in context.command.params:
            value = context.params.get(parameter.name or "")
            if isinstance(value, float) and not math.isfinite(value):
                raise click.BadParameter(f"{value} is no finite number.", context, parameter)
            if isinstance(value, int) and abs(value) > MOST:
                raise click.BadParameter(f"{value} is beyond ±{MOST}.", context, parameter)
        try:
            return command(*args, **kwargs)
        except click.ClickException as error:
            error.message = visible(error.message.replace("\n", " "))  # type: ignore[misc]
            raise

    return wrapped
