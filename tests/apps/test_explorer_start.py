"""rnagan explore up to where it would listen."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rnagan.commands.main import main
from rnagan.training.tile_inputs import TileInputs


def command(*words: object) -> Result:
    return CliRunner().invoke(main, ["explore", *map(str, words)])


def test_what_is_opened_is_said(trained: Path, inputs: TileInputs, programmes: Path) -> None:
    given = ("--model", trained, "--profiles", inputs.expression, "--programme", programmes, "--check")
    done = command(*given, "--shards", inputs.shards, "--cohort", inputs.cohort)
    assert done.exit_code == 0, done.output
    done = command(*given, "--split", "test")
    assert done.exit_code == 0, done.output


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give --model and --profiles, or --demo."),
        (("--demo",), "make the demo first (make demo, or rnagan demo)"),
        (("--model", "{trained}", "--profiles", "nowhere.h5ad"), "nowhere.h5ad don't exist"),
        (("--model", "{trained}", "--profiles", "{profiles}", "--shards", "{shards}"), "--shards needs --cohort"),
        (("--model", "{trained}", "--profiles", "{profiles}", "--programme", "nowhere.csv"), "nowhere.csv"),
        (("--model", "{trained}", "--profiles", "{profiles}", "--tissue", "bone"), "no profile of tissue bone"),
        (("--model", "{trained}", "--profiles", "{profiles}", "--host", "0.0.0.0"), "give --admin-token"),
    ],
)
def test_a_mistake_costs_one_sentence(
    words: tuple[str, ...],
    said: str,
    trained: Path,
    inputs: TileInputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(trained=trained, profiles=inputs.expression, shards=inputs.shards) for word in words]
    done = command(*given)
    last = done.output.strip().splitlines()[-1]
    assert done.exit_code > 0 and last.startswith("Error: ") and said in last, done.output
