"""The doctor's report: sections of lines, each with a verdict and, where something is off, what to do."""

import dataclasses
import enum
import textwrap
from typing import Any

import click

WIDTH = 110  # columns of a line of the report
_MARK_WIDTH = 9  # the longest mark, and a space on either side


class Verdict(enum.StrEnum):
    """`note`: neither good nor bad, or not examined; `warning`: training works, and could work better; `problem`: it
    won't work, or not as asked for."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


_COLOURS = {Verdict.OK: "green", Verdict.NOTE: "cyan", Verdict.WARNING: "yellow", Verdict.PROBLEM: "red"}


@dataclasses.dataclass(frozen=True)
class Line:
    """One finding; `advice` says what to do, in one sentence or command."""

    verdict: Verdict
    text: str
    advice: str = ""


@dataclasses.dataclass
class Section:
    """Findings of one check, and its figures by name, with units, for a JSON file."""

    title: str
    lines: list[Line] = dataclasses.field(default_factory=list)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)

    def ok(self, text: str) -> None:
        """Add a finding that is as it should be."""
        self.lines.append(Line(Verdict.OK, text))

    def note(self, text: str) -> None:
        """Add what is neither good nor bad."""
        self.lines.append(Line(Verdict.NOTE, text))

    def warn(self, text: str, advice: str = "") -> None:
        """Add a warning."""
        self.lines.append(Line(Verdict.WARNING, text, advice))

    def problem(self, text: str, advice: str = "") -> None:
        """Add a problem."""
        self.lines.append(Line(Verdict.PROBLEM, text, advice))


def is_ready(sections: list[Section]) -> bool:
    """Whether there is no problem."""
    return not count(sections, Verdict.PROBLEM)


def count(sections: list[Section], verdict: Verdict) -> int:
    """Lines with this verdict."""
    return sum(line.verdict == verdict for section in sections for line in section.lines)


def render(line: Line) -> str:
    """A line for a terminal: the mark, the text, and the advice below it."""
    mark = click.style(f" {line.verdict:<{_MARK_WIDTH - 1}}", fg=_COLOURS[line.verdict])
    indent = " " * _MARK_WIDTH
    text = _wrapped(line.text, indent, indent)
    if line.advice:
        text += "\n" + _wrapped(line.advice, f"{indent}→ ", f"{indent}  ")
    return mark + text[_MARK_WIDTH:]


def _wrapped(text: str, first: str, others: str) -> str:
    """`text` in lines of at most `WIDTH`; paths and options stay whole."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def summary(sections: list[Section]) -> str:
    """The verdict on the machine, in one sentence."""
    problems, warnings = count(sections, Verdict.PROBLEM), count(sections, Verdict.WARNING)
    counts = [f"{n} {name}{'s' if n > 1 else ''}" for n, name in ((problems, "problem"), (warnings, "warning")) if n]
    found = f" ({' and '.join(counts)})" if counts else ""
    return f"Not ready{found}." if problems else f"Ready to train{found}."


def to_dict(sections: list[Section]) -> dict[str, Any]:
    """Everything, for a JSON file."""
    return {
        "ready": is_ready(sections),
        "problems": count(sections, Verdict.PROBLEM),
        "warnings": count(sections, Verdict.WARNING),
        "sections": [dataclasses.asdict(section) for section in sections],
    }
