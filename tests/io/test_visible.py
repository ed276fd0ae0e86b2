"""Names in sentences for people: a terminal obeys none of them."""

from pathlib import Path

import pytest

from rnagan.io.visible import visible
from tests import programs
from tests.attacks import one_sentence

HOSTILE = {
    "\x1b[2J\x1b[31mgone": "\\x1b[2J\\x1b[31mgone",
    "right\rwrong": "right\\rwrong",
    "\x07\x08\x9b31m": "\\x07\\x08\\x9b31m",
    "\u202egnp.exe\u2066": "\\u202egnp.exe\\u2066",
    "a\u200bb\ufeff\u2028c\xad": "a\\u200bb\\ufeff\\u2028c\\xad",
    "\udcff.svs": "\\udcff.svs",
    "\x00": "\\x00",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_terminal_would_obey_is_written_out(name: str) -> None:
    assert visible(name) == HOSTILE[name]


@pytest.mark.parametrize("name", ["Lung – α/β", "日本語", "ن\u200cخ", "🧑\u200d🔬", "a\tb\nc", "C:\\x1b", ""])
def test_other_names_stay(name: str) -> None:
    assert visible(name) == name


@pytest.mark.attack(kind=8)
@pytest.mark.parametrize("name", [name for name in HOSTILE if "\x00" not in name] + ["a\nError: forged"])
def test_a_file_of_such_a_name_in_a_sentence(name: str, tmp_path: Path) -> None:
    asked = ("build-expression", "--table", f"{name}.csv", "--cohort", "c", "--out", "o")
    done = programs.run("rnagan", *asked, cwd=tmp_path)
    one_sentence(done, HOSTILE.get(name, "a Error: forged"))
    assert visible(done.stderr) == done.stderr
    assert [line.startswith("Error: ") for line in done.stderr.splitlines()].count(True) == 1


@pytest.mark.attack(kind=8, ends="unharmed")
@pytest.mark.parametrize("name", HOSTILE)
def test_such_a_name_in_progress_and_in_a_warning(name: str, tmp_path: Path) -> None:
    program = tmp_path / "says.py"
    program.write_text(
        "import warnings, click\n"
        "from rnagan.commands.options import plain_errors, echo\n"
        "from rnagan.runtime.progress import say\n"
        "@click.command()\n"
        "@plain_errors\n"
        "def main():\n"
        f"    name = {name!r}\n"
        "    say(name); echo(name); warnings.warn(name, UserWarning)\n"
        "main()\n"
    )
    done = programs.run(program)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and said.count(HOSTILE[name]) == 3 and visible(said) == said
