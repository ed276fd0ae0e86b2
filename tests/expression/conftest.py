from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where it isn't."""
    folder = Path(__file__).parents[3] / "shared/data"
    if not (folder / "expression").is_dir():
        pytest.skip(f"{folder} with GTEx and TCGA expression is not there")
    return folder
