"""The part of the page about how the run was made: versions, digests, params that are not the defaults, machines, libraries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pipeline import plugins
from pipeline.errors import PipelineError
from pipeline.web.artifacts import Artifact, as_dict, dig, number

JSON = dict[str, Any]

STAGES_PACKAGE = "pipeline.stages"


def part(artifacts: Mapping[str, Artifact]) -> JSON:
    """Everything the template of this part shows."""
    made = [artifact for artifact in artifacts.values() if artifact.manifest]
    commits = list(dict.fromkeys(str(artifact.manifest.get("git_commit") or "") for artifact in made))
    return {
        "stages": [_stage(artifact) for artifact in made],
        "seconds": sum(number(artifact.manifest.get("seconds")) or 0 for artifact in made),
        "params": [row for artifact in made for row in changed_params(artifact)],
        "machines": _machines(made),
        "libraries": dict(sorted({k: v for artifact in made for k, v in _libraries(artifact).items()}.items())),
        "commits": [commit for commit in commits if commit],
        "seed": next((artifact.params["seed"] for artifact in made if "seed" in artifact.params), None),
    }


def _stage(artifact: Artifact) -> JSON:
    manifest = artifact.manifest
    inputs = as_dict(dig(manifest, "recipe.inputs"))
    return {
        "name": artifact.name,
        "holds": str(manifest.get("headline") or artifact.summary.get("headline") or ""),
        "digest": str(manifest.get("digest") or ""),
        "inputs": [f"{stage}@v{as_dict(given).get('version')}" for stage, given in inputs.items()],
        "started_at": manifest.get("started_at"),
        "seconds": manifest.get("seconds"),
        "bytes": dig(manifest, "files.bytes"),
    }


def changed_params(artifact: Artifact) -> list[JSON]:
    """Params that are not what they are when left out: key as in params.yaml, value, default.

    The defaults are those of the installed code; a stage that it does not know shows all its params.
    """
    defaults = _defaults(artifact.stage)
    rows = []
    for key, value in _leaves(artifact.params, defaults):
        default = dig(defaults, key)
        # The seed of the whole run is filled in for every stage; it stands in the page once.
        if key != "seed" and json.dumps(value, sort_keys=True) != json.dumps(default, sort_keys=True):
            rows.append({"key": f"{artifact.stage}.{key}", "value": value, "default": default})
    return rows


def _defaults(stage: str) -> JSON:
    try:
        model = plugins.load(STAGES_PACKAGE, stage).STAGE.params
        return dict(model().model_dump(mode="json"))
    except (PipelineError, ImportError, ValidationError, AttributeError):
        return {}


def _leaves(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys; a mapping that the user fills freely (no keys by default) stays one value."""
    for key, value in values.items():
        default = defaults.get(key) if isinstance(defaults, Mapping) else None
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            yield from _leaves(value, default, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _machines(made: list[Artifact]) -> list[JSON]:
    """Every different machine with the stages that ran on it."""
    found: dict[str, JSON] = {}
    for artifact in made:
        machine = as_dict(artifact.manifest.get("machine"))
        if machine:
            row = found.setdefault(json.dumps(machine, sort_keys=True), {**machine, "stages": []})
            row["stages"].append(artifact.stage)
    for row in found.values():
        gpus = row.get("gpu")
        row["gpu"] = ", ".join(map(str, gpus)) if isinstance(gpus, list) else gpus
    return list(found.values())


def _libraries(artifact: Artifact) -> JSON:
    return {name: version for name, version in as_dict(dig(artifact.manifest, "recipe.libraries")).items() if version}
