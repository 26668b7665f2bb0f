"""Damaged label files of every format: whatever they hold, reading them ends in a data set with an account, or a clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline import formats
from pipeline.errors import PipelineError
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import Policy
from pipeline.labelling.merging import import_sources
from pipeline.ledger import Ledger
from pipeline.paths import is_image
from pipeline.stage import Context
from tests.label_writers import Box
from tests.labelling import Collected

ROUNDS = 100
"""Damaged sets of labels a format: a few seconds, and the same every time."""

LABELS: dict[str, list[Box]] = {
    "a.jpg": [("cat", 10, 10, 20, 20), ("dog", 1, 2, 30, 40)],
    "b.jpg": [],
    "s/c.png": [("cat", 0, 0, 50, 50)],
}
VALUES: list[Any] = [
    *(None, True, "", " ", ".", -1, 0, 10**30, 1e308, float("nan"), float("inf")),
    *("1,5", "1,024", "9" * 5000, "\0", "\ud800", "../../x.jpg", "C:\\a\\b.jpg", "aux.jpg", "x:y.jpg", "images/b.jpg"),
    *([], {}, [[]], [1], {"a": 1}),
]
PIECES = [
    b",",
    b";",
    b"-",
    b"<",
    b'"',
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"nan",
    b"1e999",
    b"9" * 5000,
    b"../",
    b"1,5",
    b"&x;",
    b"- ",
    b": ",
]


def flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5])):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.choice([1, 3, 20, len(data)]) :]


def with_more(data: bytes, random: Random) -> bytes:
    start, end = random.randrange(len(data)), random.randrange(len(data))
    return data[:start] + random.choice([*PIECES, data[end : end + 30]]) + data[start:]


def with_lines_twice(data: bytes, random: Random) -> bytes:
    return b"".join(line * random.choice([1, 1, 2]) for line in data.splitlines(keepends=True))


def deep(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + random.choice([b"[", b'{"a":', b"<a>", b"- ", b"("]) * random.choice([50, 2000, 100_000]) + data[start:]


def with_other_value(data: bytes, random: Random) -> bytes:
    """JSON with one value missing, of another kind, or under a key that is there twice; other bytes with more in them."""
    try:
        return _encoded(_changed(json.loads(data), random), random).encode()
    except ValueError:
        return with_more(data, random)


def _changed(value: Any, random: Random) -> Any:
    if not isinstance(value, dict | list) or not value or random.random() < 0.2:
        return random.choice(VALUES)
    key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if random.random() < 0.1:
        del value[key]
    else:
        value[key] = _changed(value[key], random)
    return value


def _encoded(value: Any, random: Random) -> str:
    text = json.dumps(value)
    if isinstance(value, dict) and value and random.random() < 0.2:
        key = random.choice(list(value))
        return f"{text[:-1]}, {json.dumps(key)}: {json.dumps(random.choice([value[key], *VALUES]))}}}"
    return text


DAMAGES: list[Callable[[bytes, Random], bytes]] = [
    *(flipped, cut, with_more, with_lines_twice, deep),
    *[with_other_value] * 5,
]


@pytest.mark.parametrize("name", formats.names())
def test_damaged_labels(name: str, tmp_path: Path) -> None:
    collected = Collected(tmp_path)
    for path in LABELS:
        collected.image(f"images/{path}")
    import_module(f"tests.label_writers.{name}").label(collected, "", LABELS, ["cat", "dog"])
    files = [path for path in collected.files.rglob("*") if path.is_file() and not is_image(path.name)]
    whole = {path: data for path in files if (data := path.read_bytes())}
    random = Random(name)
    read = refused = 0
    for number in range(ROUNDS):
        for path in whole:
            path.write_bytes(whole[path])
        path = random.choice(sorted(whole))
        damage = random.choice(DAMAGES)
        path.write_bytes(damage(whole[path], random))
        ledger = Ledger()
        policy = Policy(format=random.choice(["auto", name]), on_invalid=random.choice(["fix", "drop"]))
        try:
            (imported,) = import_sources(FileSet.scan(collected.files), [policy], ledger, Context())
        except PipelineError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"round {number}: {damage.__name__} in {path.name}: {path.read_bytes()[:500]!r}") from error
        else:
            read += 1
            left_out = {entry.path for entry in ledger.entries if entry.item == "image" and entry.action == "dropped"}
            there = {path for path in FileSet.scan(collected.files).photos if path not in imported.dataset.paths}
            assert there <= left_out, f"round {number}: {damage.__name__} in {path.name}: an image is gone without a word"
    assert read, "damage that is always refused tests little"
    assert refused, "and so does damage that nobody notices"
