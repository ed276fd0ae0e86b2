"""MLflow brought up to date from the folder of a run."""

from pathlib import Path

from rnagan.tracking.mlflow_run import EXPERIMENTS, MLflowRun, shown, tracking_uri
from rnagan.tracking.run_folder import RunFolder, write_record
from rnagan.tracking.run_log import model_tags, new_record, points


def sync_mlflow(folder: Path) -> str:
    """Bring MLflow up to date with a run's folder: settings, all rows of metrics, sample grids, tags and state.

    What is there already isn't doubled. Returns what was done, in one line. Raises `ConnectionError` where MLflow
    can't be reached.
    """
    run = RunFolder.open(folder)
    record = run.record or new_record(run.folder, EXPERIMENTS[run.kind], False) | {"made_from": run.made_from}
    rows = run.rows
    if not run.record:  # of a version that wrote none: about when the folder was last written to
        record["began"] = (run.folder / "config.yaml").stat().st_mtime
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
        raise ConnectionError(
            f"MLflow at {shown(tracking_uri(run.folder))} can't be brought up to date with {run.folder} "
            f"({type(error).__name__}: {str(error)[:200]})."
        ) from None
    write_record(run.folder, record | {"mlflow_run": mlflow.run_id})
    done = {"settings": settings, "values": values, "files": copied, "tags": tags}
    told = ", ".join(f"{count:,} {name}" for name, count in done.items() if count)
    new = "a new run with " if is_new else ""
    return f"{folder}: {f'{new}{told} brought to MLflow' if told else 'MLflow is up to date'}, {run.status.lower()}."
