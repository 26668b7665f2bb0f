"""What a stage is: a function from input folders and params to an output folder, and a record that describes it.

No hidden state: a stage can be run with a temporary folder and nothing else. What it needs of the machine is in the `Context`,
which never changes a result and is not part of the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from pipeline.version import Version
from pipeline.wording import plural

JSON = dict[str, Any]
Advance = Callable[..., None]
"""`advance(n=1, more=0, **info)`: n items are done; so many have come up beyond the total; `info` is shown beside the bar."""


class StageParams(BaseModel):
    """Base of every params model: frozen, strict, and no unknown key passes."""

    # Built when first used: planning validates all sections as one model, which has no need of the validators of the parts.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Progress(Protocol):
    """`total` is 0 where nobody knows it."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


def _no_progress(label: str, total: int) -> AbstractContextManager[Advance]:
    return nullcontext(lambda n=1, **info: None)


def _no_warning(text: str) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """What a stage gets from the machine and the command line; none of it may change the result.

    Attributes:
        base: the folder that relative paths in the params mean (where params.yaml lies).
        cache: a folder that outlives versions, for downloads.
        device: "auto", "cpu", "mps", "cuda" or "cuda:0".
        workers: processes or threads for per-image work.
        previous: the newest version made by the same code and params (`Stage.takes_over`), or None; its per-image work may be
            linked, not done again. None when the stage is forced, for that is how damaged versions are made anew.
        history: the newest version made by the same code and params, also when the stage is forced; its decisions may be kept,
            not its files.
        progress: `with context.progress("resize", total) as advance: advance()`.
        benchmarks: records of how fast models are, oldest first.
        warn: tell the user something that does not stop the run.
    """

    base: Path = field(default_factory=Path.cwd)
    cache: Path = field(default_factory=lambda: Path.cwd() / ".cache")
    device: str = "auto"
    workers: int = 1
    previous: Path | None = None
    history: Path | None = None
    benchmarks: tuple[Version, ...] = ()
    progress: Progress = _no_progress
    warn: Callable[[str], None] = _no_warning


def counted(summary: JSON) -> str:
    """The line that tables show of a version: the summary's own `headline`, else its counts."""
    if "headline" in summary:
        return str(summary["headline"])
    kinds = {"images": ("image", "images"), "boxes": ("box", "boxes")}
    return ", ".join(plural(summary[key], *words) for key, words in kinds.items() if isinstance(summary.get(key), int))


SAME_WORK = ("stage_version", "params", "libraries")
"""The parts of a recipe that decide what is done with an input."""


@dataclass(frozen=True)
class Stage:
    """The record by which the runner knows a stage. A module `stages/<name>.py` defines one as `STAGE`.

    Attributes:
        inputs: the stages whose artifacts `run` gets, by name.
        params: model of the section of params.yaml that bears the stage's name.
        run: `run(inputs, params, out, context) -> summary`; the summary stands in the manifest.
        version: raise it whenever the same inputs and params would give another result.
        root: which tree the versions go to.
        libraries: distributions whose version changes the result; they are part of the recipe.
        external: what the stage reads from outside the workspace, as `{name: fingerprint}`; part of the recipe.
        preflight: raises before anything runs when the params ask for what this machine does not have.
        headline: the summary in a line, for tables.
        takes_over: the parts of the recipe that a version must share to become `Context.previous`.
        reads_manifests: the result tells how the inputs were made; another version of the same bytes is then another input.
    """

    inputs: tuple[str, ...]
    params: type[StageParams]
    run: Callable[[Mapping[str, Path], Any, Path, Context], JSON]
    version: int
    root: Literal["datasets", "runs"]
    summary: str
    libraries: tuple[str, ...] = ()
    external: Callable[[Any, Context], dict[str, str]] | None = None
    preflight: Callable[[Any, Context], None] | None = None
    headline: Callable[[JSON], str] = counted
    takes_over: tuple[str, ...] = SAME_WORK
    reads_manifests: bool = False
