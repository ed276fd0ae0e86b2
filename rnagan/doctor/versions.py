"""Whether what rnagan requires is installed, in the versions that it requires."""

import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rnagan.doctor.report import Section

TOLD = ("torch", "torchvision", "accelerate", "webdataset", "simplejpeg", "numpy")  # versions worth seeing


def check_versions(section: Section, package: str = "rnagan") -> None:
    """Python and every requirement of an installed package against what is there."""
    section.figures["python"] = platform.python_version()
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        section.warn(
            f"{package} isn't installed, so what it requires isn't known.",
            "pip install --editable . (or: make install)",
        )
        return
    asked = about["Requires-Python"] or ""
    if not SpecifierSet(asked).contains(platform.python_version(), prereleases=True):
        section.problem(f"Python {platform.python_version()}: {package} needs {asked}.", "use a newer Python")
    requirements = [Requirement(text) for text in metadata.requires(package) or []]
    needed = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    check_requirements(section, needed)


def check_requirements(section: Section, requirements: list[Requirement]) -> None:
    """Add a problem for each requirement that isn't met, or one line for all that are."""
    installed: dict[str, str | None] = {one.name: _version(one.name) for one in requirements}
    section.figures["installed"] = installed
    section.figures["missing"] = [name for name, version in installed.items() if version is None]
    unmet = [one for one in requirements if not _is_met(one, installed[one.name])]
    for one in unmet:
        version = installed[one.name]
        here = "is missing" if version is None else f"{version} is installed"
        wanted = f"{one.name}{one.specifier}"
        section.problem(f"{one.name} {here}; {wanted} is needed.", f"pip install --upgrade '{wanted}'")
    versions = [
        f"Python {platform.python_version()}",
        *(f"{name} {installed[name]}" for name in TOLD if name in installed),
    ]
    if not unmet:
        section.ok(f"{', '.join(versions)}; all {len(requirements)} requirements are met.")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_met(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)
