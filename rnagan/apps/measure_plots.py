"""Small curves of what is measured on tiles, as points of SVG."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rnagan.apps.explored_model import Slider
from rnagan.reports.labels import MEASURES

WIDTH, HEIGHT, EDGE = 240, 96, 10  # px of a plot, and around its curve


class Plot(NamedTuple):
    """A measure: its label, its value now and on real tiles ("" unknown); `line`: points of its curve, `dot` of now,
    and `level` (y) of real tiles, each "" or None where there is none. `ends`: values at the slider's ends. `said`: the
    curve in words."""

    label: str
    now: str
    real: str
    line: str
    dot: tuple[float, float] | None
    level: float | None
    ends: tuple[str, str]
    said: str


def measure_plots(
    now: Mapping[str, float],
    real: Mapping[str, float],
    slider: Slider | None,
    step: float,
    curve: Sequence[Mapping[str, float]] | None,
) -> list[Plot]:
    """A plot for each measure of tiles, in their order; with a `curve` over the steps of `slider` where it is known."""
    return [_plot(name, value, real.get(name), slider, step, curve) for name, value in now.items()]


def _plot(
    name: str,
    now: float,
    real: float | None,
    slider: Slider | None,
    step: float,
    curve: Sequence[Mapping[str, float]] | None,
) -> Plot:
    label = MEASURES.get(name, name.replace("_", " "))
    shown = number_text(now), "" if real is None else number_text(real)
    if slider is None or curve is None:
        return Plot(label, *shown, "", None, None, ("", ""), "")
    values = [each[name] for each in curve]
    known = [value for value in (*values, now, real) if value is not None and np.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    span = high - low or 1.0

    def x(at: float) -> float:
        return round(EDGE + (at + slider.reach) / (2 * slider.reach) * (WIDTH - 2 * EDGE), 1)

    def y(value: float) -> float:
        return round(HEIGHT - EDGE - (value - low) / span * (HEIGHT - 2 * EDGE), 1)

    line = " ".join(f"{x(at)},{y(v)}" for at, v in zip(slider.steps, values, strict=True) if np.isfinite(v))
    dot = (x(step), y(now)) if np.isfinite(now) else None
    level = y(real) if real is not None and np.isfinite(real) else None
    ends = number_text(values[0]), number_text(values[-1])
    said = f"{label}: from {ends[0]} at {-slider.reach:g} to {ends[1]} at {slider.reach:+g} {slider.unit}"
    return Plot(label, *shown, line, dot, level, ends, said)


def number_text(value: float) -> str:
    """A measure in few digits."""
    if not np.isfinite(value):
        return "unknown"
    if abs(value) < 5e-4:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"
