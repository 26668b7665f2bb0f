"""Every error a user can cause or meet, in one tree.

    PipelineError             exit
    ├── UsageError               2   a command line that cannot be meant
    │   ├── ParamsError          2   params.yaml: unknown key, wrong type, impossible value
    │   └── MissingDependency    2   an optional package that the params ask for
    ├── DataError                3   images or labels that cannot be used as they are
    │   └── NetworkError         3   a host that does not answer, or not as it should
    ├── ArtifactError            3   a version that is missing, changed, or held by another run
    ├── TrainingError            4   training or a model file
    └── ExportError              5   an exporter that failed
        └── ExportMismatch       5   an exported model that does not behave like the original

`verify` also ends with 5 when an artifact is not what its manifest says.
Anything else that escapes is a bug of ours: exit code 1 and a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_PROBLEMS_SHOWN = 20


class PipelineError(Exception):
    """Something a user can act upon.

    Args:
        message: what happened and where (file and line, or the key in params.yaml).
        hint: what to do about it.
        problems: single findings, when one pass over the data found many; the first 20 are shown.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  - {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            lines.append(f"  … and {len(self.problems) - MAX_PROBLEMS_SHOWN} more")
        if self.hint:
            lines.append(self.hint)
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type[PipelineError], tuple[str, str, tuple[str, ...]]]:
        # Errors cross process boundaries in parallel work; the default pickling would drop hint and problems.
        return type(self), (self.message, self.hint, self.problems)


class UsageError(PipelineError):
    exit_code = 2


class ParamsError(UsageError):
    pass


class MissingDependency(UsageError):
    pass


class DataError(PipelineError):
    exit_code = 3


class NetworkError(DataError):
    pass


class ArtifactError(PipelineError):
    exit_code = 3


class TrainingError(PipelineError):
    exit_code = 4


class ExportError(PipelineError):
    exit_code = 5


class ExportMismatch(ExportError):
    pass


def how_to_install(extra: str) -> str:
    """The command for an extra of pyproject.toml, with the versions that are known to work together."""
    return f'In the repository: python3 scripts/bootstrap.py, or pip install -c scripts/constraints.txt -e ".[{extra}]"'


def did_you_mean(wrong: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """A sentence that names the nearest of `known`; when none is near `otherwise`, or a list of them all."""
    choices = sorted(known)
    near = get_close_matches(wrong, choices, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(choices)}." if otherwise is None else otherwise
