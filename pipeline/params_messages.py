"""What is wrong with a value of params.yaml, and where it was given; pydantic, which finds it, speaks of its own insides."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import did_you_mean

COMMAND_LINE = "command line"

Details = Mapping[str, Any]
"""One of `ValidationError.errors()`."""

_KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("string_type", "invalid_key"), "text"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    "dict_type": "keys with values",
}
"""What is expected instead of a value of another kind, by pydantic's type of error (https://docs.pydantic.dev/latest/errors)."""

_LIMITS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must not be empty",
    "too_short": "needs {min_length} or more entries",
    "too_long": "may have at most {max_length} entries",
    "string_too_long": "may have at most {max_length} characters",
}
_SHOWN = 60


def expectation(found: Sequence[Details], keys: Sequence[str] = ()) -> str:
    """What a value should be and what it is.

    Args:
        found: everything pydantic says of one value; more than one where a value may be of several kinds.
        keys: those of the section that was expected.
    """
    value = found[0]["input"]
    for details in found:  # a limit says more than that the value is not of the other kinds either
        if details["type"] in _LIMITS:
            numbers = {name: limit for name, limit in details["ctx"].items() if isinstance(limit, int | float)}
            limits = {name: shown(int(limit) if limit == int(limit) else limit) for name, limit in numbers.items()}
            got = "" if value in ("", [], ()) else f", got {shown(value)}"
            return _LIMITS[details["type"]].format(**limits) + got
        if details["type"] == "value_error":
            return str(details["msg"]).removeprefix("Value error, ")
        if details["type"] == "missing":
            return "is needed"
    kinds = " or ".join(dict.fromkeys(_kind(details, keys) for details in found))
    hint = f"; write [{shown(value)[1:-1]}]" if kinds == "a list" and isinstance(value, str) else ""
    hint = "; put it in quotes" if kinds == "text" and isinstance(value, int | float) else hint
    return f"expected {kinds}, got {shown(value)}{hint}"


def _kind(details: Details, keys: Sequence[str]) -> str:
    if details["type"] == "literal_error":
        return str(details["ctx"]["expected"]).replace("'", "")
    if details["type"].startswith("model_"):
        return f"keys such as {', '.join(keys[:3])}" if keys else "keys with values"
    return _KINDS.get(details["type"]) or str(details["msg"]).removeprefix("Input should be ")


class _Short(reprlib.Repr):
    """YAML can make gigabytes of a few lines by aliases, so nothing is written out in full first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = self.maxlist = self.maxtuple = self.maxset = self.maxdict = 3
        self.maxstring = self.maxother = self.maxlong = _SHOWN


def shown(value: object) -> str:
    """A value as it would stand in params.yaml, cut to some sixty characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".replace("e+0", "e").replace("e+", "e") if abs(value) >= 1e6 else f"{value}"
    if isinstance(value, BaseModel):
        return "other keys"
    text = _Short().repr(value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"


def kind_of(value: object) -> str:
    """What a whole document is."""
    kinds = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), f"a {type(value).__name__}")


@dataclass(frozen=True)
class Places:
    """Where a key was given: a line of the file, or the command line.

    Attributes:
        file: the name of the file.
        text: all of it.
        overridden: the keys that the command line gives.
    """

    file: str
    text: str
    overridden: AbstractSet[tuple[str, ...]]

    def of(self, keys: tuple[str, ...]) -> str:
        line, found = self._line(keys)
        in_file = f"{self.file}:{line}" if line else self.file
        if any(keys[: len(given)] == given for given in self.overridden):
            return COMMAND_LINE
        if any(given[: len(keys)] == keys for given in self.overridden):  # of what is below, some is given there
            return f"{COMMAND_LINE} and {in_file}" if found else COMMAND_LINE
        return in_file

    def _line(self, keys: tuple[str, ...]) -> tuple[int, bool]:
        """The line of a key, or of the nearest key above it that is written in the file; and whether it is its own line."""
        node: Any = yaml.compose(self.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        line = 0
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                pair = next(((name, value) for name, value in node.value if name.value == key), None)
                if pair is None:
                    return line, False
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
                node = node.value[int(key)]
                line = node.start_mark.line + 1
            else:
                return line, False
        return line, True


def sentences(
    error: ValidationError,
    model: type[BaseModel],
    where: Callable[[tuple[str, ...]], str],
    own_seeds: AbstractSet[str] = frozenset(),
) -> list[str]:
    """A sentence a mistake.

    Args:
        where: what a sentence about some keys begins with, such as `Places.of`.
        own_seeds: the sections that have a seed of their own; the others got that of the whole run.
    """
    found: dict[tuple[str, ...], list[Details]] = {}
    for details in error.errors(include_url=False):
        keys = _keys(details, model)
        if keys[1:] == ("seed",) and keys[0] not in own_seeds:
            keys = ("seed",)
        found.setdefault(keys, []).append(details)
    # Where a value may be a list or a number, a wrong entry of the list is also no number.
    inner = [keys for keys in found if not any(other[: len(keys)] == keys and other != keys for other in found)]
    return [_sentence(keys, found[keys], model, where(keys)) for keys in inner]


def _sentence(keys: tuple[str, ...], found: list[Details], model: type[BaseModel], where: str) -> str:
    name = shown(".".join(keys)).strip("'")
    if found[0]["type"] == "extra_forbidden":
        known = _fields_at(model, keys[:-1])
        return f"{where}: unknown key '{name}'. {did_you_mean(keys[-1], known) if known else 'There are none here.'}"
    return f"{where}: {name}: {expectation(found, _fields_at(model, keys))}"


def _keys(details: Details, model: type[BaseModel]) -> tuple[str, ...]:
    """The keys and list positions that lead to a mistake; pydantic's own path also names the kinds that a value may have."""
    keys: list[str] = []
    annotation: Any = model
    for part in details["loc"]:
        inner, mapping = _model_in(annotation), _mapping_in(annotation)
        if inner is not None and part in inner.model_fields:
            annotation = inner.model_fields[part].annotation
        elif mapping is not None:
            annotation = get_args(mapping)[1]
        elif not isinstance(part, int) and details["type"] != "extra_forbidden":
            continue
        keys.append(str(part))
    return tuple(keys)


def _fields_at(model: type[BaseModel], keys: Sequence[str]) -> list[str]:
    """The field names that are allowed below some keys; descends through nested models as far as the keys lead."""
    for key in keys:
        field = model.model_fields.get(key)
        inner = _model_in(field.annotation) if field else None
        model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _mapping_in(annotation: Any) -> Any:
    return next((c for c in (annotation, *get_args(annotation)) if get_origin(c) is dict), None)
