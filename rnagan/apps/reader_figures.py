"""Figure 6 of the article, of any reader study: how much better one source is than another, reader by reader."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnagan.apps.reader_scores import REAL
from rnagan.reports.figures import COLOURS, in_legend, save_figure

_WIDTH = 0.8  # of a tissue's group


def difference_figure(path: Path, means: pd.DataFrame, tests: list[dict[str, Any]], sources: list[str]) -> None:
    """A: real tiles less those of each other source; B: every two of the other sources. A group a tissue, a dot a
    reader, the mean with its 95% interval over readers. `means` as `reader_scores.by_reader` gives them, `tests` those
    of `reader_tests.compare_sources` as dicts."""
    panels = {
        "A": [test for test in tests if test["first"] == REAL],
        "B": [test for test in tests if test["first"] != REAL],
    }
    shown = {name: own for name, own in panels.items() if own}
    path.unlink(missing_ok=True)  # of another study
    if not shown:
        return
    figure, axes = plt.subplots(1, len(shown), figsize=(4.6 * len(shown), 3.6), squeeze=False, sharey=True)
    for axis, (name, own) in zip(axes[0], shown.items(), strict=True):
        _panel(axis, own, means)
        axis.set_title(name, loc="left", fontweight="bold")
    axes[0, 0].set_ylabel("difference in quality, points")
    save_figure(figure, path)


def _panel(axis: Axes, tests: list[dict[str, Any]], means: pd.DataFrame) -> None:
    tissues = list(dict.fromkeys(test["tissue"] for test in tests))
    pairs = list(dict.fromkeys((test["first"], test["second"]) for test in tests))
    step = _WIDTH / len(pairs)
    axis.axhline(0, color="0.6", lw=1)
    for number, (first, second) in enumerate(pairs):
        colour = COLOURS[number % len(COLOURS)]
        for test in tests:
            if (test["first"], test["second"]) != (first, second):
                continue
            place = tissues.index(test["tissue"]) - _WIDTH / 2 + step * (number + 0.5)
            values = (means[test["tissue"], first] - means[test["tissue"], second]).dropna().to_numpy()
            beside = np.linspace(-0.2, 0.2, len(values)) * step if len(values) > 1 else np.zeros(len(values))
            axis.plot(place + beside, values, "o", color=colour, ms=4, alpha=0.6, mec="none")
            if test["low"] is not None:
                reach = [[test["difference"] - test["low"]], [test["high"] - test["difference"]]]
                axis.errorbar(place, test["difference"], reach, fmt="_", color="black", ms=14, capsize=4)
        axis.plot([], [], "o", color=colour, label=in_legend(f"{first} − {second}"))
    axis.set_xticks(range(len(tissues)), [tissue or "any tissue" for tissue in tissues])
    axis.legend(fontsize=8, frameon=False)
