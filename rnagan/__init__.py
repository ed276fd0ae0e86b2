"""rnagan generates H&E tissue tiles from gene expression profiles (Carrillo-Perez et al. 2023, and past it)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["RNAGAN", "__version__"]

if TYPE_CHECKING:
    from rnagan.api import RNAGAN


def __getattr__(name: str) -> Any:
    if name == "RNAGAN":  # imported on first use: torch takes seconds
        from rnagan.api import RNAGAN

        return RNAGAN
    raise AttributeError(f"module 'rnagan' has no attribute '{name}'")
