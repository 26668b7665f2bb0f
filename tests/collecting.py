"""Run `collect` on one source, and read what it leaves."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.files import is_temporary
from pipeline.ledger import read as read_ledger
from pipeline.sources import _unpacking
from pipeline.stage import Context
from pipeline.stages import collect


def params(source: str, seed: int = 0, **options: object) -> collect.Params:
    return collect.Params.model_validate({"source": source, "options": options, "seed": seed})


def run(source: str, out: Path, context: Context, seed: int = 0, **options: object) -> dict[str, Any]:
    return collect.run({}, params(source, seed, **options), out, context)


def run_killed_while_unpacking(source: str, out: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is here; of its files not one."""

    def interrupt(source: object, target: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_unpacking, "copy_hashed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(source, out, context)


def fingerprint_of(source: str, context: Context, seed: int = 0, **options: object) -> str:
    """By which a run finds out whether there is anything to do."""
    return collect.external(params(source, seed, **options), context)["source files"]


def collected(out: Path) -> list[str]:
    """The paths of all files, sorted."""
    return sorted(path.relative_to(out / "files").as_posix() for path in (out / "files").rglob("*") if path.is_file())


def published(out: Path) -> list[str]:
    """Those that go into the version: temporary ones stay behind."""
    return [path for path in collected(out) if not is_temporary(path.rpartition("/")[2])]


def origins(out: Path) -> list[dict[str, Any]]:
    # By "\n" alone: `splitlines` would also break at what may stand in a name, such as U+2028.
    return [json.loads(line) for line in (out / "origins.jsonl").read_text(encoding="utf-8").split("\n") if line]


def reasons(out: Path) -> set[tuple[str, str]]:
    """(path, reason) of all entries of the ledger."""
    return {(entry.path, entry.reason) for entry in read_ledger(out)}


def assert_limit_and_seed_choose(take: Callable[[str, int, int], Iterable[object]]) -> None:
    """A larger limit adds to a smaller one; and the seed chooses, and nothing else.

    Args:
        take: `take(name, limit, seed)` collects to a folder of that name, and tells which images came.
    """
    three, six, again, other = (list(take(*each)) for each in (("3", 3, 0), ("6", 6, 0), ("again", 3, 0), ("other", 3, 1)))
    assert len(three) == 3
    assert set(three) < set(six)
    assert again == three != other


def assert_told_in_a_line_without(secrets: Sequence[str], error: PipelineError) -> None:
    """In nothing that an error could be printed as, also not in what a traceback would leave out."""
    assert "\n" not in error.message
    whole = "".join(traceback.format_exception(error)) + str(error)
    cause: BaseException | None = error
    while cause:
        whole, cause = whole + repr(cause) + str(cause), cause.__cause__ or cause.__context__
    for secret in secrets:
        assert secret not in whole


def assert_no_file_holds(secrets: Sequence[str], paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file():
            content = path.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, path
