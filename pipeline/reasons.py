"""Why a recipe is not that of a version that exists: what `run --dry-run` and `status` say a stage runs for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JSON = dict[str, Any]


def why(recipe: JSON, old: JSON, waiting: Mapping[str, int]) -> list[str]:
    """Short phrases: `epochs 10 → 20`, `augment v3 → v4`.

    Args:
        waiting: inputs that will run first, with the number their new version will get.
    """
    phrases = []
    for source, digest in recipe["inputs"].items():
        before = old["inputs"].get(source)
        if source in waiting:
            phrases.append(f"{source} {'v' + str(before['version']) + ' → ' if before else ''}v{waiting[source]}")
        elif before is None or before["digest"] != digest:
            phrases.append(f"{source} changed" + (f" since v{before['version']}" if before else ""))
    if recipe["stage_version"] != old.get("stage_version"):
        phrases.append("the stage's code changed")
    phrases += _differences(old["params"], recipe["params"])
    known = old.get("external", {})
    phrases += [f"{name} changed" for name, value in recipe["external"].items() if name in known and known[name] != value]
    phrases += _differences(old.get("libraries", {}), recipe["libraries"])
    return phrases


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`key old → new` for every leaf in which two nested mappings differ."""
    phrases = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            phrases += _differences(before, after, f"{prefix}{key}.")
        elif before != after and isinstance(after, list) and any(isinstance(each, dict) for each in after):
            phrases.append(f"{prefix}{key} changed")
        elif before != after:
            phrases.append(f"{prefix}{key} {_short(before)} → {_short(after)}")
    return phrases


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
