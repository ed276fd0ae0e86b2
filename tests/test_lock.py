"""requirements.lock: what launch_configs/rnagan.def installs fits what setup.py asks for."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def pins(lock: str) -> list[Requirement]:
    """The lines that name a version; one distribution may have several, for different platforms."""
    return [Requirement(line.removesuffix("\\")) for line in lock.splitlines() if line[:1].isalnum()]


def unmet(requirements: Iterable[str], lock: str) -> list[str]:
    """Requirements that the lock misses, or meets with a version outside their bounds on some platform."""
    versions: dict[str, list[str]] = {}
    for pin in pins(lock):
        (exactly,) = pin.specifier
        versions.setdefault(canonicalize_name(pin.name), []).append(exactly.version)
    found = []
    for text in requirements:
        requirement = Requirement(text)
        locked = versions.get(canonicalize_name(requirement.name), [])
        if not locked or not all(version in requirement.specifier for version in locked):
            found.append(text)
    return found


@pytest.fixture
def asked() -> list[str]:
    """What setup.py asks for, with its extra `s3`."""
    (call,) = [
        node.value
        for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    return [*ast.literal_eval(given["install_requires"]), *ast.literal_eval(given["extras_require"])["s3"]]


def test_the_lock_meets_what_setup_asks_for(asked: list[str]) -> None:
    assert len(asked) > 35
    assert unmet(asked, LOCK) == [], "make lock, in an environment in which the tests pass"


def test_a_version_out_of_bounds_or_missing_is_found(asked: list[str]) -> None:
    older = re.sub(r"^torch==[\d.]+", "torch==1.13.1", LOCK, flags=re.MULTILINE)
    without = re.sub(r"^scipy==", "scypi==", LOCK, flags=re.MULTILINE)
    assert [text.split(">")[0] for text in unmet(asked, older)] == ["torch"]
    assert [text.split(">")[0] for text in unmet(asked, without)] == ["scipy"]


def test_every_version_is_known_by_its_hash() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(LOCK)) > 100
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_recipe_copies_files_that_are_there() -> None:
    recipe = (ROOT / "launch_configs/rnagan.def").read_text(encoding="utf-8")
    copied = dict(re.findall(r"^    (\S+) (/opt/rnagan/\S+)$", recipe, flags=re.MULTILINE))
    assert {"requirements.lock", "setup.py", "pyproject.toml", "README.md", "rnagan"} == copied.keys()
    for source, place in copied.items():
        assert (ROOT / source).exists() and place == f"/opt/rnagan/{source}"
    assert "--require-hashes --requirement /opt/rnagan/requirements.lock" in recipe
