from collections.abc import Callable
from pathlib import Path

import pytest

from rnagan.config import GANConfig
from rnagan.training.gan_run import GANInputs


@pytest.fixture(scope="session")
def command_line() -> Callable[[GANConfig, GANInputs, Path], list[str]]:
    """command_line(config, inputs, out): the options of tools/train_rnagan.py that say all of this."""
    return _command_line


def _command_line(config: GANConfig, inputs: GANInputs, out: Path) -> list[str]:
    settings = []
    for name, value in config.to_dict().items():
        name = name.replace("_", "-")
        settings.append(f"--{name}={value}" if not isinstance(value, bool) else f"--{'' if value else 'no-'}{name}")
    return [
        f"--shards={inputs.shards}",
        f"--cohort={inputs.cohort}",
        f"--expression={inputs.expression}",
        f"--vae={inputs.vae}",
        f"--out={out}",
        *settings,
    ]
