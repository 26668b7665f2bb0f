"""Plugins are modules: whatever lies in a plugin folder and does not start with `_` is one.

There is no registry to edit. Listing reads the folder; only the chosen module is imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from pipeline.errors import UsageError, did_you_mean


def names(package: str) -> list[str]:
    """The plugins of a package such as "pipeline.formats", sorted."""
    return list(_names(package))


@cache
def _names(package: str) -> list[str]:
    folder = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import one plugin.

    Raises:
        UsageError: there is none of that name; the nearest one is named.
    """
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].rstrip("s")
        raise UsageError(f"Unknown {kind} '{name}'.", did_you_mean(name, known))
    return importlib.import_module(f"{package}.{name}")
