"""The sections of the evaluations' tests."""

from tests.evaluation.conftest import section_run, section_set  # noqa: F401
