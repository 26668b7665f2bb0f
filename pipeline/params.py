"""params.yaml → typed, frozen, strict models.

The file has a section per stage, bearing the stage's name, and a few settings of the whole run. A stage that is added as a new
module brings its section with it. Nothing is ignored: an unknown key, a wrong type or a value out of range is an error that names
the line and the nearest key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from pipeline.errors import ParamsError, did_you_mean
from pipeline.stage import JSON, Stage, StageParams

FILE_NAME = "params.yaml"

try:
    _SafeLoader: Any = yaml.CSafeLoader
except AttributeError:  # PyYAML built without libyaml: slower, same result
    _SafeLoader = yaml.SafeLoader


class Health(StageParams):
    """What `check` leaves out."""

    ignore: list[str] = Field(
        default_factory=list, description="codes of findings that are known and accepted; see docs/health.md"
    )


class Settings(StageParams):
    """The keys of params.yaml that belong to no stage. `device`, `workers` and `health` never change a recipe."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="of every stage that draws anything; a section may have its own")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, mps, cuda or cuda:0; auto takes a GPU where one is",
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        default="auto", description="threads for work on images; auto: one a core"
    )
    health: Health = Field(default_factory=Health)


@dataclass(frozen=True)
class Params:
    """Validated params of a run.

    Attributes:
        base: the folder of params.yaml; relative paths in it start there.
        stages: stage name → its validated section, seed filled in.
        values: the same sections as plain values, defaults included, as recipes hold them.
    """

    base: Path
    seed: int
    device: str
    workers: int | Literal["auto"]
    health: Health
    stages: Mapping[str, StageParams]
    values: Mapping[str, JSON]


class _Loader(_SafeLoader):  # type: ignore[misc]
    """YAML as people write it: duplicate keys are errors, and `1e-3` is a number (YAML 1.1 takes it for a string)."""


def _mapping(loader: Any, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """YAML text to plain values.

    Raises:
        ParamsError: no YAML; names `where` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a safe loader
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParamsError(f"{where}{line}: {error.problem or error.context}", "Fix the YAML there.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ParamsError(f"{where}: not valid YAML: {error}") from error


def load(path: Path, stages: Mapping[str, Stage], overrides: Sequence[str] = ()) -> Params:
    """Read and validate params.

    Args:
        path: params.yaml.
        stages: every stage of the pipeline, by name.
        overrides: `section.key=value`, applied over the file; the value is YAML.

    Raises:
        ParamsError: lists every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ParamsError(
            f"There is no {path}.", "Make a project with `python -m pipeline init DIR`, or name one by --params."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read: {error}") from error
    values = parse_yaml(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected sections such as `train:`, got {type(values).__name__}.")
    overridden = _apply_overrides(values, overrides)
    return _validate(values, path, text, stages, overridden)


def from_settings(stages: Mapping[str, Stage], overrides: Sequence[str]) -> Params:
    """Params of defaults and `section.key=value` alone, for commands that need no project; raises as `load`."""
    values: dict[str, Any] = {}
    overridden = _apply_overrides(values, overrides)
    return _validate(values, Path(FILE_NAME), "", stages, overridden)


def _apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> set[tuple[str, ...]]:
    applied = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = tuple(key.strip().split("."))
        if not equals or not all(parts):
            raise ParamsError(f"'{override}' is not of the form section.key=value.", "For example: --set train.epochs=20")
        target = values
        for part in parts[:-1]:
            inner = target.get(part)
            if inner is None:
                inner = target[part] = {}
            if not isinstance(inner, dict):
                raise ParamsError(f"--set {override}: '{part}' is a single value, it has no keys.")
            target = inner
        target[parts[-1]] = parse_yaml(text, f"--set {key}")
        applied.add(parts)
    return applied


def _validate(
    values: dict[str, Any], path: Path, text: str, stages: Mapping[str, Stage], overridden: set[tuple[str, ...]]
) -> Params:
    model = _model(stages)
    given = _with_sections(values, model)
    for name, stage in stages.items():
        if "seed" in stage.params.model_fields and isinstance(given[name], dict):
            given[name] = {"seed": given.get("seed", 0), **given[name]}
    try:
        whole = model.model_validate(given)
    except ValidationError as error:
        problems = [_problem(details, model, path, text, overridden) for details in error.errors()]
        raise ParamsError("The params cannot be used:", problems=list(dict.fromkeys(problems))) from error
    return Params(
        base=path.resolve().parent,
        seed=getattr(whole, "seed"),  # noqa: B009 - the model is made at run time
        device=getattr(whole, "device"),  # noqa: B009
        workers=getattr(whole, "workers"),  # noqa: B009
        health=getattr(whole, "health"),  # noqa: B009
        stages={name: getattr(whole, name) for name in stages},
        # All at once: a section dumped by itself would have its serializer built anew, which a no-op run would notice.
        values={name: value for name, value in whole.model_dump(mode="json").items() if name in stages},
    )


def _with_sections(values: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """`values` with an empty mapping for every section that is missing, or None because all of its keys are commented out.

    A section that is given, however empty, is validated as a part of the whole; one that is made by its default would have a
    validator of its own built, which a no-op run would notice.
    """
    given = dict(values)
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            value = given.get(name)
            value = {} if value is None else value
            given[name] = _with_sections(value, section) if isinstance(value, dict) else value
    return given


def _model(stages: Mapping[str, Stage]) -> type[BaseModel]:
    fields: dict[str, Any] = {name: (stage.params, Field(default_factory=stage.params)) for name, stage in stages.items()}
    return create_model("Params", __base__=Settings, **fields)


def _problem(details: Any, model: type[BaseModel], path: Path, text: str, overridden: set[tuple[str, ...]]) -> str:
    location = [str(part) for part in details["loc"]]
    # Union branches and validators add parts to the location that are no keys of the file.
    keys = _existing_keys(location, text, overridden)
    where = "--set" if any(tuple(keys[: len(given)]) == given for given in overridden) else _line(path, text, keys)
    name = ".".join(keys)
    if details["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"{where}: unknown key '{'.'.join(location)}'. {did_you_mean(location[-1], known)}"
    message = details["msg"].removeprefix("Value error, ")
    got = "" if details["type"] in ("missing", "value_error") else f", got {details['input']!r}"
    return f"{where}: {name}: {message}{got}"


def _existing_keys(location: list[str], text: str, overridden: set[tuple[str, ...]]) -> list[str]:
    known = {part for keys in overridden for part in keys} | set(re.findall(r"[\w-]+", text))
    return [part for part in location if part in known or part.isdigit()] or location


def _line(path: Path, text: str, keys: list[str]) -> str:
    """`params.yaml:12`, the line where the key stands; the file alone when it is not written there."""
    node: Any = yaml.compose(text, Loader=_Loader)
    line = 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pair = next(((name, value) for name, value in node.value if name.value == key), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            break
    return f"{path.name}:{line}" if line else path.name


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """The field names that are allowed at a location; descends through nested models as far as the location leads."""
    for part in location:
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            continue
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
