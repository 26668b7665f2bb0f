"""Run an exporter in a process of its own.

Converters print through C++ to stdout, change torch's global state, hold gigabytes after they are done, and can die by a signal.
In a child process (spawned, the same on every system) none of that reaches the pipeline, and Ctrl-C ends it at once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from pipeline.errors import ExportError, PipelineError

Result = TypeVar("Result")
_LOG_LINES_SHOWN = 12


def isolated(what: str, function: Callable[..., Result], *arguments: object) -> Result:
    """The result of `function(*arguments)`, computed in a child process whose output goes to a file.

    Args:
        what: what is being made, for the message.
        function: at module level, so that the child can import it.

    Raises:
        PipelineError: as `function` raised it.
        ExportError: anything else went wrong; shows the end of the exporter's output.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="yolo-pipeline-") as folder, receiver:
        log = Path(folder) / "log.txt"
        process = context.Process(target=_child, args=(sender, log, function, arguments), daemon=True)
        process.start()
        sender.close()
        try:
            outcome = receiver.recv()
        except EOFError:  # it died without a word
            process.join()
            outcome = RuntimeError(f"the process ended with exit code {process.exitcode} (negative: killed by that signal)")
        finally:
            if process.is_alive() and sys.exc_info()[0] is not None:
                process.terminate()
            process.join()
        if isinstance(outcome, PipelineError):
            raise outcome
        if isinstance(outcome, RuntimeError):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
            raise ExportError(f"{what}: {outcome}", problems=[line for line in lines if line.strip()][-_LOG_LINES_SHOWN:])
        result: Result = outcome[0]
        return result


def _child(sender: Connection, log: Path, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    with log.open("wb", buffering=0) as stream:
        for descriptor in (1, 2):  # below Python's streams, where native code writes
            os.dup2(stream.fileno(), descriptor)
    try:
        sender.send((function(*arguments),))
    except PipelineError as error:
        sender.send(error)
    except Exception as error:  # noqa: BLE001 - third-party code raises anything; not all of it can be pickled
        traceback.print_exc()
        sender.send(RuntimeError(f"{type(error).__name__}: {error}"))
