"""The version of what is installed, from the metadata beside the code."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _of

__all__ = ["version"]


def version() -> str:
    """Such as ``0.1.0``; ``0+unknown`` in a tree that was never installed."""
    try:
        return _of("meshkeep")
    except PackageNotFoundError:
        return "0+unknown"
