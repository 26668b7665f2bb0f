"""YAML as people write it: parsed strictly, and complained of in plain words.

Duplicate keys are errors, `1e-3` is a number (YAML 1.1 takes it for a string), and a few lines of aliases cannot fill the memory.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from pipeline.errors import ParamsError

try:
    _SafeLoader: Any = yaml.CSafeLoader
except AttributeError:  # PyYAML built without libyaml: slower, same result
    _SafeLoader = yaml.SafeLoader

MAX_VALUES = 100_000
"""What a document may hold when all of its aliases are written out."""


class _Loader(_SafeLoader):  # type: ignore[misc]
    """A safe loader with the rules above."""


def _mapping(loader: Any, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "unhashable key", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


def _number(loader: Any, node: yaml.ScalarNode) -> float:
    number: float = loader.construct_yaml_float(node)
    if not math.isfinite(number):  # a recipe could not hold it
        raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no number that can be used", node.start_mark)
    return number


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str, hint: str = "Mend the YAML there.") -> Any:
    """YAML text to plain values.

    Raises:
        ParamsError: no YAML; names `where` and the line, if there are several.
    """
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a safe loader
    except yaml.MarkedYAMLError as error:
        line, what = _complaint(error, text)
        raise ParamsError(f"{where}{f':{line}' if line and chr(10) in text else ''}: {what}.", hint) from error
    except yaml.reader.ReaderError as error:
        raise ParamsError(f"{where}: this is no text: it holds control characters.", hint) from error
    except RecursionError as error:
        raise ParamsError(f"{where}: lists or mappings lie too deep in each other.", hint) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ParamsError(f"{where}: not valid YAML: {error}.", hint) from error
    if _values(value, {}) > MAX_VALUES:
        raise ParamsError(f"{where}: aliases ('*') make more than {MAX_VALUES:,} values of it.", hint)
    return value


def _values(value: Any, counted: dict[int, float]) -> float:
    """How many values a document holds, those behind aliases each time; infinite where one holds itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counted:
        counted[id(value)] = math.inf
        counted[id(value)] = 1 + sum(_values(inner, counted) for inner in (value.values() if isinstance(value, dict) else value))
    return counted[id(value)]


_UNCLOSED = {
    "',' or ']'": "a list is not closed: a ']' or a comma is missing",
    "',' or '}'": "a mapping is not closed: a '}' or a comma is missing",
    "unexpected end of stream": "a quotation mark is not closed",
}
_YAML = {
    "node content": "a value is missing, or a bracket is not closed",
    "mapping values are not allowed": "a ':' stands where none may: indent like the line above, or put the text in quotes",
    "expected key": "this line is not indented like those it belongs to",
    "expected <block end>": "this line is not indented like those it belongs to",
    "expected '-' indicator": "this line is not indented like those it belongs to",
    "find expected ':'": "a ':' is missing between a key and its value",
    "could not determine a constructor": "words that begin with '!' are not understood here; put text in quotes",
    "undefined alias": "text that begins with '*' must stand in quotes",
    "recursive node": "an alias ('*') stands for something that holds it",
    "unhashable key": "a key must be plain text",
    "another document": "a second document begins here, and there may be one only",
    "tab character": "there is a tab; YAML wants spaces",
}
"""What PyYAML says, with libyaml or without, and what it means."""


def _complaint(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """(line from 1, what is wrong there); line 0 where the error does not say."""
    said = str(error.problem or error.context)
    lines = text.splitlines() or [""]
    mark = error.problem_mark
    line = lines[min(mark.line, len(lines) - 1)] if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        said = "tab character"
    elif mark and "cannot start any token" in said and mark.column < len(line):
        return mark.line + 1, f"text that begins with '{line[mark.column]}' must stand in quotes"
    for part, meaning in _UNCLOSED.items():
        if part in said:  # it is noticed later, at the end even; what is to be mended stands where it began
            mark = error.context_mark or mark
            return (mark.line + 1 if mark else 0), meaning
    meaning = next((meaning for part, meaning in _YAML.items() if part in said), said)
    return (mark.line + 1 if mark else 0), meaning
