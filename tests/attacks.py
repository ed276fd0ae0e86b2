"""Attacks on the program: tests marked `attack`, which benchmarks/attacks.py counts.

`@pytest.mark.attack(kind=4)` is an attack that has to end in one sentence. With `ends="unharmed"` it has to end as if
nothing had happened: the right result, and nothing left behind. What the test asserts is what holds this; beside it,
no program that the test starts by tests/programs.py may show a traceback. A test of generated calls, of which each is
one attempt, gives their number: `record_property("invocations", 1200)`.
"""

from collections.abc import Iterator

import pytest

from tests import programs

ENDS = ("sentence", "unharmed")
KINDS = range(1, 11)
TRACEBACK = "Traceback (most recent call last)"


def note_attacks(items: list[pytest.Item]) -> None:
    """The report of an attack says its kind and how it has to end."""
    for item in items:
        mark = item.get_closest_marker("attack")
        if mark:
            declared = {"ends": ENDS[0]} | mark.kwargs
            if mark.args or declared.keys() != {"kind", "ends"} or declared["kind"] not in KINDS:
                raise pytest.UsageError(f"{item.nodeid}: attack needs kind=, 1 to {KINDS[-1]}, and may have ends=.")
            if declared["ends"] not in ENDS:
                raise pytest.UsageError(f"{item.nodeid}: attack's ends= is one of {', '.join(ENDS)}.")
            item.user_properties += [(f"attack_{name}", value) for name, value in declared.items()]


@pytest.fixture(autouse=True)
def no_traceback_in_an_attack(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the programs of an attack print holds no traceback."""
    if not request.node.get_closest_marker("attack"):
        yield
        return
    with programs.recorded() as ended:
        yield
    for program in ended:
        assert TRACEBACK not in program.stdout + program.stderr, f"{program.words}\n{program.stderr[-5000:]}"


def one_sentence(ended: programs.Ended, *named: str) -> None:
    """Check that a program refused: not exit code 0, and a last line `Error: …` that names each of `named`."""
    last = ended.stderr.strip().rpartition("\n")[2]
    assert ended.returncode > 0 and last.startswith("Error: "), f"{ended.returncode}\n{ended.stderr[-5000:]}"
    assert TRACEBACK not in ended.stdout + ended.stderr
    assert all(name in last for name in named), last
