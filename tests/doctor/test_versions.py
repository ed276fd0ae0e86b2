from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rnagan.doctor.environment import check_requirements, check_versions
from rnagan.doctor.findings import Section, Verdict


def section() -> Section:
    return Section("Versions")


def install(folder: Path, *requirements: str, python: str = ">=3.11") -> None:
    """Put the metadata of a package `toy` into a folder."""
    about = folder / "toy-1.0.dist-info"
    about.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: toy", "Version: 1.0", f"Requires-Python: {python}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    (about / "METADATA").write_text("\n".join(lines) + "\n")


def test_this_environment_meets_what_rnagan_requires() -> None:
    found = section()
    check_versions(found)
    assert [line.verdict for line in found.lines] == [Verdict.OK]
    assert "torch 2." in found.lines[0].text and "requirements are met" in found.lines[0].text
    assert found.figures["installed"]["torch"] and "pytest" not in found.figures["installed"]  # an extra


def test_too_old_and_missing_are_problems() -> None:
    found = section()
    check_requirements(found, [Requirement(text) for text in ("numpy>=99", "no-such-package>=1.5", "click>=8")])
    assert {line.verdict for line in found.lines} == {Verdict.PROBLEM}
    old, missing = found.lines
    assert "numpy 2" in old.text and "numpy>=99 is needed" in old.text and "'numpy>=99'" in old.advice
    assert "no-such-package is missing" in missing.text
    assert found.figures["missing"] == ["no-such-package"]


def test_requirements_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "numpy>=99", 'click>=99; extra == "dev"', 'torch>=99; python_version < "3"', python=">=99")
    monkeypatch.syspath_prepend(tmp_path)
    found = section()
    check_versions(found, "toy")
    assert [line.text.split(":")[0].split(";")[0].split()[0] for line in found.lines] == ["Python", "numpy"]


def test_package_that_is_not_installed() -> None:
    found = section()
    check_versions(found, "no-such-package")
    assert [line.verdict for line in found.lines] == [Verdict.WARNING]
