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

from pydantic import BaseModel, Field, ValidationError, create_model, field_validator

from pipeline.benchmark_params import Benchmark
from pipeline.errors import ParamsError
from pipeline.params_messages import COMMAND_LINE, Places, kind_of, sentences, shown
from pipeline.params_yaml import parse_yaml
from pipeline.stage import JSON, Stage, StageParams

FILE_NAME = "params.yaml"


class Health(StageParams):
    """What `check` leaves out."""

    ignore: list[str] = Field(
        default_factory=list, description="codes of findings that are known and accepted; see docs/health.md"
    )


class Settings(StageParams):
    """The keys of params.yaml that belong to no stage. But for `seed`, none of them ever changes a recipe."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="of every stage that draws anything; a section may have its own")
    device: str = Field(default="auto", description="auto, cpu, mps, cuda or cuda:0; auto takes a GPU where one is")
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        default="auto", description="threads for work on images; auto: one a core"
    )
    health: Health = Field(default_factory=Health)
    benchmark: Benchmark = Field(default_factory=Benchmark)

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
            raise ValueError(f"expected auto, cpu, mps, cuda or cuda:0, got {shown(device)}")
        return device


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
    benchmark: Benchmark
    stages: Mapping[str, StageParams]
    values: Mapping[str, JSON]


def load(
    path: Path, stages: Mapping[str, Stage], overrides: Sequence[str] = (), sections: Mapping[str, JSON] | None = None
) -> Params:
    """Read and validate params.

    Args:
        path: params.yaml.
        stages: every stage of the pipeline, by name.
        overrides: `section.key=value`, applied over the file; the value is YAML.
        sections: of the command line, in place of those of the file.

    Raises:
        ParamsError: lists every problem found.
    """
    text = _read(path)
    values = parse_yaml(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ParamsError(
            f"{path}: expected sections such as `train:`, got {kind_of(values)}.",
            "`python -m pipeline init DIR` makes an example.",
        )
    overridden = _apply_overrides(values, overrides)
    if sections:
        values.update(sections)
        overridden |= {(name,) for name in sections}
    return _validate(values, path, text, stages, overridden)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ParamsError(
            f"There is no {path}.", "Make a project with `python -m pipeline init DIR`, or name one by --params."
        ) from None
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path} is no text in UTF-8.", "Save it as UTF-8 in your editor, or name another file by --params."
        ) from error
    except OSError as error:
        if path.is_dir():
            raise ParamsError(f"{path} is a folder.", f"Name the file by --params, such as {path / FILE_NAME}.") from error
        raise ParamsError(f"{path} cannot be read: {error.strerror}.", "Name another file by --params.") from error


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
            raise ParamsError(f"'{override}' is not of the form section.key=value.", "For example: train.epochs=20")
        target = values
        for part in parts[:-1]:
            inner = target.get(part)
            if inner is None:
                inner = target[part] = {}
            if not isinstance(inner, dict):
                raise ParamsError(f"{COMMAND_LINE}: {shown(override)}: '{part}' is a single value, it has no keys.")
            target = inner
        hint = f"""If text is meant, give it quotes of its own: '{shown(key).strip("'")}="{shown(text).strip("'")}"'"""
        target[parts[-1]] = parse_yaml(text, f"{COMMAND_LINE}: {key}", hint)
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
        own_seeds = {name for name in stages if isinstance(values.get(name), dict) and "seed" in values[name]}
        problems = sentences(error, model, Places(path.name, text, overridden).of, own_seeds)
        raise ParamsError("The params cannot be used:", problems=problems) from error
    return Params(
        base=path.resolve().parent,
        seed=getattr(whole, "seed"),  # noqa: B009 - the model is made at run time
        device=getattr(whole, "device"),  # noqa: B009
        workers=getattr(whole, "workers"),  # noqa: B009
        health=getattr(whole, "health"),  # noqa: B009
        benchmark=getattr(whole, "benchmark"),  # noqa: B009
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
