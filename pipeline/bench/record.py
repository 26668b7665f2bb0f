"""The record of a benchmark: one JSON file that travels, with everything in it that a comparison needs, raw samples included.

`SCHEMA` is a JSON Schema (2020-12); `docs/benchmark-record.schema.json` is its copy for others. `read` holds a file against it
with the few keywords that it uses, so that nothing must be installed on the machine that measures. Beyond what a schema can say,
`read` checks that the samples of every cell can be unpacked and are as many as its figures say.

A record in the making is written after every group of cells (`partial`), under a temporary name and then renamed: what has its
name is whole.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import secrets
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files
from pipeline.bench import END_TO_END
from pipeline.bench.record_schema import KIND, SCHEMA, SCHEMA_NUMBER
from pipeline.bench.settings import STREAM, batches_in_turn
from pipeline.bench.statistics import Samples

JSON = dict[str, Any]

MAX_BYTES = 1 << 30
MAX_SAMPLES = 100_000_000
"""Of one phase of one cell: a record from elsewhere may claim any number, and unpacking takes eight bytes for each."""


class RecordError(ValueError):
    """A record that cannot be used. Attributes: `message` names the file and the key, `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint


def new(
    tool: str,
    machine: JSON,
    software: JSON,
    method: JSON,
    label: str = "",
    created_at_s: float | None = None,
) -> JSON:
    """A record without inputs, models and cells yet, and therefore partial.

    Args:
        tool: name and version of what measures.
        label: what the user calls this machine or run; the one place where a name may stand.
        created_at_s: Unix time; now when None.
    """
    return {
        "schema": SCHEMA_NUMBER,
        "kind": KIND,
        "id": secrets.token_hex(6),
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created_at_s)),
        "tool": tool,
        "label": label,
        "partial": True,
        "partial_reason": "not finished",
        "machine": machine,
        "software": software,
        "method": method,
        "inputs": [],
        "models": {},
        "cells": [],
    }


# ---- samples ----


def pack(samples: Samples) -> str:
    """Base64 of zlib of little-endian int64 nanoseconds."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(samples.ns, dtype="<i8").tobytes(), 9)).decode("ascii")


def unpack(packed: str, rounds: list[int], inputs: int = 1) -> Samples:
    """Inverse of `pack`.

    Args:
        rounds: samples of each round.
        inputs: see `Samples`.

    Raises:
        RecordError: it is not what `pack` makes, or not as many samples as the rounds have. No more is unpacked than they have.
    """
    expected = sum(rounds)
    if expected > MAX_SAMPLES:
        raise RecordError(f"{expected:,} samples, at most {MAX_SAMPLES:,} are read")
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(base64.b64decode(packed, validate=True), 8 * expected + 1)
    except (ValueError, zlib.error) as error:
        raise RecordError(f"samples that cannot be unpacked ({error})") from None
    if len(data) != 8 * expected or not inflate.eof:
        held = "more" if len(data) > 8 * expected else f"{len(data) // 8:,}"
        raise RecordError(f"{held} samples, where the rounds have {expected:,}")
    return Samples(np.frombuffer(data, dtype="<i8").astype(np.int64), tuple(rounds), inputs)


def samples_of(cell: JSON, phase: str, images: int) -> Samples:
    """The raw samples of a phase of a cell that `read` has accepted.

    Args:
        images: of the record. They take turns, every round from the first one on; in batches, as many batches as it takes for
            each to come equally often; a camera drops frames, so that nobody knows which one a sample was.
    """
    in_turn = images > 0 and cell["scenario"] != STREAM
    return unpack(cell["samples"][phase], cell["rounds"], batches_in_turn(images, cell["batch"]) if in_turn else 1)


# ---- files ----


def write(path: Path, record: JSON) -> None:
    """Write atomically, after the same checks that `read` makes.

    Raises:
        RecordError: the record is not one; a bug of who made it.
        OSError: the disk is full, say; what stood at `path` before is untouched.
    """
    check(record, path.name)
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    files.write_text(path, text)


def read(path: Path) -> JSON:
    """A record that keeps the schema and whose samples are all there.

    Raises:
        RecordError: missing, unreadable, truncated or of another schema; a key that is missing or has another type; samples that
            do not match.
    """
    name = path.name
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(f"{name}: larger than {MAX_BYTES >> 20:,} MiB", "A record has a few MiB: this is something else.")
        text = path.read_bytes().decode("utf-8-sig")
        record = json.loads(text, parse_constant=_no_constant)
    except OSError as error:
        raise RecordError(f"{name}: cannot be read ({error.strerror or error})", "Check the path.") from None
    except RecordError:
        raise
    except UnicodeDecodeError as error:
        raise RecordError(f"{name}: not text, byte {error.start:,} is no UTF-8", _COPY_AGAIN) from None
    except json.JSONDecodeError as error:
        problem = "empty" if not text.strip() else f"no JSON at line {error.lineno}, column {error.colno} ({error.msg})"
        at_end = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated string")
        cut = ": the end is missing" if text.strip() and at_end else ""
        raise RecordError(f"{name}: {problem}{cut}", _COPY_AGAIN) from None
    except ValueError as error:  # Python reads no numbers of thousands of digits
        raise RecordError(f"{name}: {error}", "This is something else than a record.") from None
    except RecursionError:
        raise RecordError(f"{name}: nested too deeply", "A record has four levels: this is something else.") from None
    check(record, name)
    return record  # type: ignore[no-any-return]  # checked


_COPY_AGAIN = "The file is damaged or incomplete: copy it again from the machine that made it, or measure again."


def _no_constant(name: str) -> float:
    raise json.JSONDecodeError(f"{name} is no JSON", name, 0)


def check(record: Any, name: str) -> None:
    """Hold a record against the schema, and its cells against themselves.

    Args:
        name: of the file, for messages.

    Raises:
        RecordError: the first thing that is wrong, by file and key.
    """
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise RecordError(f"{name}: not a benchmark record", "`python -m pipeline benchmark` writes one: record.json.")
    number = record.get("schema")
    if not isinstance(number, int) or isinstance(number, bool):
        raise RecordError(f"{name}: schema: a whole number is expected, not {_shown(number)}")
    if number > SCHEMA_NUMBER:
        raise RecordError(
            f"{name}: made by a newer release (schema {number}; this one reads up to {SCHEMA_NUMBER})",
            "Update this installation, or measure again with this release.",
        )
    if number < SCHEMA_NUMBER:
        raise RecordError(
            f"{name}: made by an older release (schema {number}; this one reads from {SCHEMA_NUMBER} on)",
            "Measure again with this release, or compare with the one that made it.",
        )
    if problem := mismatch(record, SCHEMA):
        raise RecordError(f"{name}: {problem}", "The file was changed, or made by something else: take the original.")
    for index, cell in enumerate(record["cells"]):
        try:
            _check_cell(cell, record["models"])
        except RecordError as error:
            raise RecordError(f"{name}: cells[{index}]{error.message}", _COPY_AGAIN) from None


def _check_cell(cell: JSON, models: JSON) -> None:
    if cell["phases"] and cell["model"] not in models:
        raise RecordError(f".model: no model '{cell['model']}' in models")
    if cell["phases"] and END_TO_END not in cell["phases"]:
        raise RecordError(".phases: no end_to_end")
    if cell["phases"] and cell["scenario"] == "stream" and cell["stream"] is None:
        raise RecordError(".stream: null, although the scenario is stream")
    if cell["status"] != "valid" and not cell["reasons"]:
        raise RecordError(f".reasons: empty, although the cell is {cell['status']}")
    if cell["status"] == "valid" and not cell["phases"]:
        raise RecordError(".phases: empty, although the cell is valid")
    for phase, figures in cell["phases"].items():
        if phase not in cell["samples"]:
            raise RecordError(f".samples: none of {phase}, which has figures")
        if figures["n"] != sum(cell["rounds"]):
            raise RecordError(f".phases.{phase}.n: {figures['n']:,}, where the rounds have {sum(cell['rounds']):,} samples")
    for phase, packed in cell["samples"].items():
        try:
            unpack(packed, cell["rounds"])
        except RecordError as error:
            raise RecordError(f".samples.{phase}: {error.message}") from None


# ---- the schema ----


def mismatch(value: Any, schema: JSON, key: str = "") -> str:
    """The first place where a value does not keep a schema, as "key: what is wrong"; "" where it does.

    Of JSON Schema it knows the keywords that `SCHEMA` uses, and refuses others: type, const, enum, required, properties,
    additionalProperties (a schema), items, minItems, maxItems, minimum, exclusiveMinimum.

    Raises:
        NotImplementedError: a keyword that it does not know.
    """
    if unknown := schema.keys() - _KEYWORDS:
        raise NotImplementedError(f"JSON Schema keywords that are not checked: {sorted(unknown)}")
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_IS[name](value) for name in types):
        return f"{key or 'the record'}: {' or '.join(_NAMES[name] for name in types)} expected, not {_shown(value)}"
    if "const" in schema and value != schema["const"]:
        return f"{key}: {_shown(schema['const'])} expected, not {_shown(value)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{key}: one of {', '.join(map(str, schema['enum']))} expected, not {_shown(value)}"
    if isinstance(value, dict):
        return _object_mismatch(value, schema, key)
    if isinstance(value, list):
        return _array_mismatch(value, schema, key)
    if _IS["number"](value):
        if value < schema.get("minimum", -math.inf):
            return f"{key}: at least {schema['minimum']} expected, not {_shown(value)}"
        if value <= schema.get("exclusiveMinimum", -math.inf):
            return f"{key}: more than {schema['exclusiveMinimum']} expected, not {_shown(value)}"
    return ""


def _object_mismatch(value: JSON, schema: JSON, key: str) -> str:
    prefix = f"{key}." if key else ""
    for name in schema.get("required", []):
        if name not in value:
            return f"{prefix}{name}: missing"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    found = (mismatch(inner, properties.get(name, others), f"{prefix}{name}") for name, inner in value.items())
    return next(filter(None, found), "")


def _array_mismatch(value: list[Any], schema: JSON, key: str) -> str:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return f"{key}: {schema.get('minItems', 0)} to {schema.get('maxItems', 'any number of')} items expected, not {len(value)}"
    found = (mismatch(inner, schema.get("items", {}), f"{key}[{index}]") for index, inner in enumerate(value))
    return next(filter(None, found), "")


_IS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: _IS["integer"](value) or (isinstance(value, float) and math.isfinite(value)),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_NAMES = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_ANNOTATIONS = {"$schema", "title", "description"}
_CHECKED = {"type", "const", "enum", "minimum", "exclusiveMinimum"}
_NESTED = {"required", "properties", "additionalProperties", "items", "minItems", "maxItems"}
_KEYWORDS = _ANNOTATIONS | _CHECKED | _NESTED


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


# ---- spreadsheets ----


def to_csv(record: JSON) -> str:
    """A line a cell, for spreadsheets and pandas: setting, status, figures. Units are in the names, unknown is empty."""
    rows = [_row(record, cell) for cell in record["cells"]]
    # Phases differ from cell to cell: the columns are those of all, in the order in which they come up.
    columns = list(dict.fromkeys(column for row in [_row(record, {}), *rows] for column in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_csv(path: Path, record: JSON) -> None:
    """`to_csv`, atomically."""
    files.write_text(path, to_csv(record))


def _row(record: JSON, cell: JSON) -> JSON:
    """The line of a cell; of an empty one, the columns that every line has."""
    row: JSON = {"record": record["id"], "label": record["label"], "cpu": record["machine"]["cpu"]["name"]}
    row["gpu"] = ", ".join(gpu["name"] for gpu in record["machine"]["gpus"])
    row |= {key: cell.get(key) for key in ("task", "model", "runtime", "precision", "device")}
    row["imgsz"] = "x".join(map(str, cell.get("imgsz", [])[::-1]))  # width by height
    row |= {key: cell.get(key) for key in ("batch", "threads", "scenario", "status")}
    row["reasons"] = "; ".join(cell.get("reasons", []))
    figures = ("load_ms", "first_ms", "images_per_s", "memory_peak_mib", "gpu_memory_peak_mib", "energy_j_per_image", "drift")
    row |= {key: cell.get(key) for key in figures}
    watch, stream = cell.get("watch") or {}, cell.get("stream") or {}
    row |= {key: watch.get(key) for key in ("background_load", "slowdown", "throttled")}
    row |= {f"stream_{key}": stream.get(key) for key in ("fps", "frames", "dropped", "age_p50_ms", "age_p99_ms")}
    model = record["models"].get(cell.get("model"), {})
    row |= {key: model.get(key) for key in ("weights", "parameters", "gflops", "map50_95", "map50")}
    for phase, figures_of in cell.get("phases", {}).items():
        low, high = figures_of["p50_ci95_ms"] or (None, None)
        row |= {f"{phase}_{key}": value for key, value in figures_of.items() if key != "p50_ci95_ms"}
        row |= {f"{phase}_p50_low_ms": low, f"{phase}_p50_high_ms": high}
    return row
