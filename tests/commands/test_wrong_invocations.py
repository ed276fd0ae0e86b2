"""Wrong calls of every command, generated from its options: a sentence, an exit code that isn't 0, and no traceback.

A call never starts work: what it needs beside the wrong value doesn't exist, or excludes each other. The table of what
was tried is printed (pytest -rP).
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner

from rnagan.commands.main import main

MOST = 2**63 - 1
INTEGERS = ("x", "", "1.5", "nan", "1e3", "0x10", str(MOST + 1), str(-MOST - 2))
NUMBERS = ("x", "", "nan", "inf", "-inf", "1e999", "1,5")
PATHS = ("", "nowhere", "empty.csv", "bytes.h5ad", "folder", "x" * 5000, "\udcff\x1b[31m", "~nobody/x", "/dev/null")
TEXTS = ("", "=;=", "x=-1", "é\x1b[31m", "{}", "-", "a:b", "\u202egnp.", "x" * 5000)
NEEDED = "needed"  # begins the names of files and folders that don't exist
# What makes calls of commands end that need nothing, or would fetch something.
ENDS = {
    "build-cohort": ["--samples", "empty.csv"],
    "build-tiles": ["--tiles", "empty.csv", "--slides", "folder"],
    "compute-fid": ["--extractor", "handmade"],
    "demo": ["--data", NEEDED, "--out", "empty.csv/out", "--shards", "empty.csv/shards"],
    "doctor": ["--config", NEEDED],
    "simulate-cohort": ["--donors", "20", "--slide-donors", "30"],
}
NO_VALUE = "(no value)"  # which would take the next word
COMBINATIONS = 5  # of each command
LEAST = 4_500  # calls of all commands


class Wrong(NamedTuple):
    """A wrong value of an option. `named`: the sentence has to name the option, as no other mistake comes before it."""

    option: str
    value: str
    words: tuple[str, ...]
    named: bool


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from commands(command.get_command(click.Context(command), name), (*words, name))
    else:
        yield words, command


COMMANDS = dict(commands(main))


def values(parameter: click.Parameter) -> list[tuple[str, bool]]:
    """Wrong values, and whether each is wrong whatever else there is."""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        sure = ["nowhere", "", kind.choices[0].swapcase(), ",".join(kind.choices) + ","]
        return [(value, True) for value in sure]
    if kind.name.startswith(("integer", "float")):
        sure = list(INTEGERS if kind.name.startswith("integer") else NUMBERS)
        low, high = getattr(kind, "min", None), getattr(kind, "max", None)
        sure += [str(low - 1)] if low is not None else []
        sure += [str(high + 1)] if high is not None else []
        return [*((value, True) for value in sure), ("-7", False)]
    if isinstance(kind, click.Path):
        return [(value, value == "") for value in PATHS]
    return [(value, False) for value in TEXTS]


def thinned(wrong: list[Wrong], words: tuple[str, ...]) -> list[Wrong]:
    """Two wrong values of each option, drawn alike every time."""
    draw, by_option = random.Random(" ".join(words)), dict[str, list[Wrong]]()
    for each in wrong:
        by_option.setdefault(each.option, []).append(each)
    return [each for own in by_option.values() for each in draw.sample(own, min(2, len(own)))]


def wrong_values(parameter: click.Parameter) -> list[Wrong]:
    if isinstance(parameter, click.Argument):
        return [Wrong(parameter.name, value, ("--", value), False) for value, _ in values(parameter)]
    name = parameter.opts[0]
    if getattr(parameter, "is_flag", False):
        return [Wrong(name, "=x", (f"{name}=x",), True)]
    found = [
        Wrong(name, value, (f"{name}={value}",) if parameter.nargs == 1 else (name, *[value] * parameter.nargs), sure)
        for value, sure in values(parameter)
    ]
    return [*found, Wrong(name, NO_VALUE, (name,), True)]


def needed(words: tuple[str, ...], but: str = "") -> list[str]:
    """What a command can't do without, so that only the wrong value is wrong to click."""
    given = list(ENDS.get(words[0], ()))
    for parameter in COMMANDS[words].params:
        value = "1" if parameter.type.name.startswith(("integer", "float")) else f"{NEEDED}-{parameter.name}"
        if isinstance(parameter, click.Argument):
            given += [value] if parameter.required and parameter.name != but else []
        elif parameter.required and parameter.opts[0] not in (but, *given):
            given += [parameter.opts[0], *[value] * parameter.nargs]
    return given


@pytest.fixture
def attempt(tmp_path, monkeypatch) -> Callable[[list[str]], tuple[str, str]]:
    """attempt(words): the last line, and what is wrong with how the call ended."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bytes.h5ad").write_bytes(bytes(range(256)) * 20)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = {path.name for path in tmp_path.iterdir()}

    def attempt(words: list[str]) -> tuple[str, str]:
        done = CliRunner().invoke(main, words)
        last = done.stderr.strip().rpartition("\n")[2]
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            return last, f"traceback: {done.exception!r}"
        if done.exit_code == 0:
            return last, "silent"
        if {path.name for path in tmp_path.iterdir()} != before:
            return last, f"something was made: {sorted(path.name for path in tmp_path.iterdir())}"
        control = any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in last)
        return last, "no sentence" if not last.startswith("Error: ") or control else ""

    return attempt


def calls(words: tuple[str, ...], every: bool) -> list[tuple[str, list[str], tuple[str, ...]]]:
    """What is wrong, the words of the call, and names of which the sentence has to hold one, if there are any."""
    parameters = COMMANDS[words].params
    wrong = [each for parameter in parameters for each in wrong_values(parameter)]
    wrong = wrong if every else thinned(wrong, words)
    found = []
    for each in wrong:
        named = (each.option, each.option.lstrip("-").replace("-", "_")) if each.named else ()
        found.append((each.option, [*words, *needed(words, each.option), *each.words], named))
    for parameter in parameters:
        option = parameter.opts[0]
        if parameter.required and isinstance(parameter, click.Option) and option not in ENDS.get(words[0], ()):
            found.append(("a missing option", [*words, *needed(words, option)], (option,)))
    found.append(("an unknown option", [*words, *needed(words), "--no-such-option"], ("--no-such-option",)))
    draw, together = random.Random(" ".join(words)), [each for each in wrong if each.value != NO_VALUE]
    for _ in range(COMBINATIONS * (4 if every else 1)):
        chosen = draw.sample(together, min(len(together), draw.randint(2, 4)))
        found.append(("several", [*words, *needed(words), *(word for each in chosen for word in each.words)], ()))
    return found


EVERY = [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.guard])]


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize("every", EVERY, ids=["some", "every"])
@pytest.mark.parametrize("words", COMMANDS, ids="-".join)
def test_a_wrong_call_ends_in_a_sentence(words: tuple[str, ...], every: bool, attempt, record_property) -> None:
    tried, bad = Counter[str](), []
    for what, call, named in calls(words, every):
        last, trouble = attempt(call)
        tried[what] += 1
        if not trouble and named and not any(name in last for name in named):
            trouble = "not named"
        if trouble:
            bad.append(f"{[word[:40] for word in call]}: {trouble}: {last[:200]}")
    record_property("invocations", tried.total())
    print(f"{' '.join(words)}: {tried.total()} calls", *(f"  {what}: {n}" for what, n in tried.items()), sep="\n")
    assert not bad, f"{len(bad)} of {tried.total()}\n" + "\n".join(bad[:40])


def test_thousands_of_wrong_calls_are_tried() -> None:
    assert sum(len(calls(words, every=True)) for words in COMMANDS) >= LEAST
    for words, command in COMMANDS.items():
        options = {parameter.opts[0] for parameter in command.params}
        for every in (False, True):
            assert options <= {what for what, _, _ in calls(words, every)}, words
