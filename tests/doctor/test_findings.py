import json

import click

from rnagan.doctor.findings import WIDTH, Section, Verdict, is_ready, render, summary, to_dict


def made() -> list[Section]:
    good, bad = Section("Good"), Section("Bad", figures={"n": 2})
    good.ok("It works.")
    good.note("It wasn't tried.")
    bad.warn("It is slow.", "make it faster")
    bad.warn("It is late.")
    bad.problem("word " * 60, "docker run --shm-size=8g " * 12)
    return [good, bad]


def test_a_line_has_its_mark_and_its_advice_below() -> None:
    warned, _, problem = (click.unstyle(render(line)).splitlines() for line in made()[1].lines)
    assert warned == [" warning It is slow.", "         → make it faster"]
    assert problem[0].startswith(" problem word word") and all(len(line) <= WIDTH for line in problem)
    assert all(line.startswith(" " * 9) for line in problem[1:])
    assert not any(line.endswith(("-", "--shm")) for line in problem)  # an option is never broken


def test_a_problem_decides() -> None:
    good, bad = made()
    assert is_ready([good]) and summary([good]) == "Ready to train."
    assert not is_ready([good, bad]) and summary([good, bad]) == "Not ready (1 problem and 2 warnings)."
    bad.lines.pop()
    assert is_ready([good, bad]) and summary([good, bad]) == "Ready to train (2 warnings)."


def test_figures_are_json() -> None:
    report = json.loads(json.dumps(to_dict(made())))
    assert (report["ready"], report["problems"], report["warnings"]) == (False, 1, 2)
    assert report["sections"][1]["figures"] == {"n": 2}
    assert report["sections"][1]["lines"][0] == {
        "verdict": Verdict.WARNING,
        "text": "It is slow.",
        "advice": "make it faster",
    }
