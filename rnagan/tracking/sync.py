"""MLflow brought up to date from folders of runs and of evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rnagan.tracking.evaluations import evaluation_to_mlflow, evaluations_below, read_evaluation, store_of
from rnagan.tracking.mlflow_run import MLflowRun, reason
from rnagan.tracking.mlflow_store import EXPERIMENTS, shown, tracking_uri
from rnagan.tracking.run_folder import RunFolder, find_runs, write_record
from rnagan.tracking.run_log import model_tags, new_record, points


def sync_folders(paths: Sequence[Path]) -> Iterator[str]:
    """Bring MLflow up to date with runs and then with evaluations; yields a line for each.

    `paths`: run folders, evaluation folders, or folders that hold them. Nothing is doubled. Raises `FileNotFoundError`
    for a path that holds neither, before anything is brought, and `ConnectionError` where MLflow can't be reached.
    """
    runs: dict[Path, Path] = {}
    evaluations: dict[Path, Path] = {}
    for path in map(Path, paths):
        found = evaluations_below(path)
        try:
            runs |= {run.resolve(): run for run in find_runs([path])}
        except FileNotFoundError:
            if not found:
                raise
        evaluations |= {each.resolve(): each for each in found}
    for run in runs.values():
        yield sync_mlflow(run)
    for each in evaluations.values():
        yield sync_evaluation(each)


def sync_evaluation(path: Path) -> str:
    """Bring MLflow up to date with the record of one evaluation; returns what was done, in one line."""
    try:
        done = evaluation_to_mlflow(path)
    except OSError:
        raise
    except Exception as error:
        raise _unreachable(error, store_of(path), path.parent) from None
    return f"{path.parent}: {read_evaluation(path)['kind']}: {_in_words(done)}."


def sync_mlflow(folder: Path) -> str:
    """Bring MLflow up to date with a run's folder: settings, all rows of metrics, sample grids, tags and state.

    What is there already isn't doubled. Returns what was done, in one line. Raises `ConnectionError` where MLflow
    can't be reached.
    """
    run = RunFolder.open(folder)
    record = new_record(run.folder, EXPERIMENTS[run.kind], False) | {"made_from": run.made_from} | run.record
    rows = run.rows
    if not run.record:  # of a version that wrote none: about when the folder was last written to
        record["began"] = (run.folder / "config.yaml").stat().st_mtime
        record["tags"] |= {"kind": run.kind}
        record["tags"] |= {name: str(run.settings[name]) for name in ("mode", "resolution") if name in run.settings}
    record["tags"] |= model_tags(run.folder)
    try:
        mlflow, is_new = MLflowRun.open(run.folder, record, record.get("mlflow_run"))
        settings, tags = mlflow.settings(run.settings), mlflow.tags(record["tags"])
        values = mlflow.log_missing(points(rows, record["began"]))
        copied = int(mlflow.artifact(run.folder / "config.yaml"))
        copied += sum(mlflow.artifact(path, "samples") for path in run.sample_grids().values())
        if run.status != "RUNNING":
            mlflow.end(run.status, {}, record.get("ended") or record["began"] + run.seconds)
    except OSError:
        raise
    except Exception as error:
        raise _unreachable(error, run.folder, run.folder) from None
    write_record(run.folder, record | {"mlflow_run": mlflow.run_id})
    done = {"settings": settings, "values": values, "files": copied, "tags": tags}
    return f"{folder}: {'a new run with ' if is_new else ''}{_in_words(done)}, {run.status.lower()}."


def _in_words(done: Mapping[str, int]) -> str:
    new = ", ".join(f"{count:,} {name}" for name, count in done.items() if count)
    return f"{new} brought to MLflow" if new else "MLflow is up to date"


def _unreachable(error: Exception, store: Path, folder: Path) -> ConnectionError:
    return ConnectionError(
        f"MLflow at {shown(tracking_uri(store))} can't be brought up to date with {folder} ({reason(error)})."
    )
