"""The sqlite file of an MLflow store: whether it is one, and what becomes of one that was never finished."""

import contextlib
import itertools
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

UNTOUCHED_SECONDS = 10.0  # after which nobody makes a store any more
_POLL_SECONDS = 0.5


def set_aside_half_made(path: Path) -> None:
    """Rename a store whose making was killed, and warn: MLflow could never open it again, and it holds no run.

    Call it while no process of ours makes one. One that another program makes just now is waited for. What is no
    sqlite file is set aside too; the folders of runs have all that a new one needs.
    """
    while path.is_file() and (problem := _problem(path)):
        if time.time() - path.stat().st_mtime < UNTOUCHED_SECONDS:
            time.sleep(_POLL_SECONDS)
            continue
        aside = next(name for name in map(path.with_name, _names(path.name)) if not name.exists())
        path.rename(aside)
        with contextlib.suppress(FileNotFoundError):  # else sqlite would take it for the new file's
            path.with_name(f"{path.name}-journal").rename(aside.with_name(f"{aside.name}-journal"))
        warnings.warn(
            f"MLflow's {path} {problem}; it is {aside.name} now, and a new one is made. To bring earlier runs there: "
            f"rnagan sync-mlflow {path.parent}",
            stacklevel=2,
        )


def _names(name: str) -> Iterator[str]:
    return map(f"{name}.damaged-{{}}".format, itertools.count(1))


def _problem(path: Path) -> str | None:
    """What is wrong with a file that can't become a store any more; None also where another process holds it."""
    if path.stat().st_size == 0:
        return None  # MLflow fills it
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as file:  # rolls back what a killed process began
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            made = "experiments" in tables and file.execute("SELECT 1 FROM experiments LIMIT 1").fetchone()
    except sqlite3.OperationalError:  # locked, or on a disk that can't be written: MLflow says so
        return None
    except sqlite3.DatabaseError as error:
        return f"can't be read ({error})"
    return None if made else "was never finished, its making was interrupted"
