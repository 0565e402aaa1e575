"""How Orcinus and its optional libraries are installed here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orcinus.errors import ConfigError

NAME = "orcinus-llm"  # on a package index, where `orcinus` is something else
MADE_BY_MAKE = frozenset({"serve", "test"})  # extras that the Makefile installs


def clone() -> Path | None:
    """The repository folder that this package runs from.

    None if it was installed from a wheel.
    """
    package = Path(__file__).resolve().parent
    root = package.parents[1]
    return root if package.parent.name == "src" and (root / "pyproject.toml").is_file() else None


def how_to_install(extra: str) -> str:
    """The command that adds an extra's libraries to this installation."""
    root = clone()
    if root is None:
        return f"pip install '{NAME}[{extra}]'"
    here = "" if _is_here(root) else f"in {root}: "
    made = f"make {extra}, or " if extra in MADE_BY_MAKE else ""
    return f"{here}{made}pip install -e '.[{extra}]'"


def _is_here(folder: Path) -> bool:
    try:
        return folder == Path.cwd()
    except OSError:  # the working directory was deleted
        return False


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Makes a failed import in the block say what to install.

    Raises `ConfigError` if an optional library is missing or broken.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] == "orcinus":
            raise
        broken = "" if isinstance(error, ModuleNotFoundError) else f", which cannot be imported ({error})"
        raise ConfigError(f"{what} needs {error.name}{broken}: {how_to_install(extra)}") from None
