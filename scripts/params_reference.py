"""Write docs/params.md, the list of every key of params.yaml, from the models that check them.

    python scripts/params_reference.py

A test fails when the page is not up to date.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import params, runner  # noqa: E402

PAGE = ROOT / "docs" / "params.md"
HEAD = """# Every key of params.yaml

Made by `scripts/params_reference.py` from the models that check the file. A key that is left out has its default; the
`params.yaml` of a new project sets some of them otherwise, to suit the sample. Every key can be given on the command line:
`train.epochs=20`.
"""


def page() -> str:
    lines = [HEAD, "## The whole run\n", *_table(params.Settings)]
    for name, stage in runner.discover().items():
        lines += [f"\n## {name}\n", f"{stage.summary[0].upper()}{stage.summary[1:].rstrip('.')}.\n", *_table(stage.params)]
    return "\n".join(lines) + "\n"


def _table(model: type[BaseModel]) -> list[str]:
    rows = [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in _rows(model, "")]
    return ["| key | value | default | |", "|---|---|---|---|", *rows]


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", _kind(field), _default(field), _escape(field.description or "")
        else:
            listed = get_origin(field.annotation) in (list, tuple)
            yield (
                f"{prefix}{name}",
                "list" if listed else "mapping",
                "",
                _escape(field.description or inspect.getdoc(inner) or ""),
            )
            yield from _rows(inner, f"{prefix}{name}[]." if listed else f"{prefix}{name}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(rule, name):,}" for rule in field.metadata for name, sign in _SIGNS.items() if hasattr(rule, name)
    ]
    return _escape(" ".join([_name(field.annotation), ", ".join(limits)]).strip())


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


def _name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _name(get_args(annotation)[0])
    if origin is Literal:
        return " / ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if part is type(None) else _name(part) for part in get_args(annotation))
    if origin in (list, tuple):
        return f"list of {_name(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true / false"}.get(annotation.__name__, "any")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel) or value is None or value in ([], (), {}, ""):
        return "" if value is None else "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
