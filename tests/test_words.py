"""One word for one thing: words that are retired, and names of modules and classes that say too little."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = (
    *("paint", "paints", "painted", "painter", "painters", "painting", "repaint", "repainted", "repainting"),
    *("told", "taught", "judge", "judges", "judged", "judging", "observer", "observers", "readout", "readouts"),
    *("watched", "pile", "piles"),
)
# Module names that say too little.
NAMELESS = (
    *("condition_reader", "held_out", "associations", "curves", "neighbours", "nearest_tiles"),
    *("kinds", "arrays", "arrangement", "records", "adopt", "batch_memory"),
    *("frames", "numbers", "layout", "choice", "scratch", "hdf5", "store"),
    *("folder", "native", "survey", "engine", "pace", "stopping", "fine_tuning", "where", "names", "terminal"),
    *("processes", "observer", "judge", "readout", "pile", "painting", "pretrained", "utils", "helpers", "misc"),
)
NAMELESS_CLASSES = ("HeldOut", "Judge", "Observer", "Observed", "Pile", "Painted", "ConditionReader")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".sbatch", ".sh"}
TEXTS = [
    path
    for top in ("rnagan", "tools", "shards", "docs", "launch_configs")
    for path in sorted((ROOT / top).rglob("*"))
    if path.suffix in SUFFIXES and "data" not in path.relative_to(ROOT / top).parts[:1] * (top == "shards")
]
TEXTS.append(ROOT / "README.md")
MODULES = sorted((ROOT / "rnagan").rglob("*.py"))
# Names that stand once for each of several things of one kind.
ROOMS_OF_ALIKE = {"commands", "config"}  # a command's and a setting's file are named for what they start and set
ALIKE = {"__init__", "__main__", "trainer", "train", "step", "draws", "data"}  # of each kind of training


# The two places that read names which earlier versions wrote.
OLD_NAMES_ARE_READ = {"rnagan/tracking/old_results.py", "rnagan/config/reproduction.py"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_retired_word(path: Path) -> None:
    """Nor as a part of an identifier: `painted_tiles`, `TilesPainted`."""
    if str(path.relative_to(ROOT)) in OLD_NAMES_ARE_READ:
        return
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", path.read_text(encoding="utf-8")).replace("_", " ").lower()
    retired = re.compile(rf"\b({'|'.join(RETIRED)})\b")
    found = [
        f"line {number}: {word}" for number, line in enumerate(text.splitlines(), 1) for word in retired.findall(line)
    ]
    assert not found, f"{path.relative_to(ROOT)} uses retired words ({', '.join(found)})"


def test_module_and_class_names_say_what_is_inside() -> None:
    inside_commands = ROOT / "rnagan/commands"
    assert not [path for path in MODULES if path.stem in NAMELESS and path.parent != inside_commands]
    for path in MODULES:
        names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
        assert not names & set(NAMELESS_CLASSES), path


def test_no_two_modules_of_one_name_do_different_things() -> None:
    counted = Counter(
        path.stem
        for path in MODULES
        if path.stem not in ALIKE and path.relative_to(ROOT).parts[1] not in ROOMS_OF_ALIKE
    )
    assert not [name for name, count in counted.items() if count > 1]
