"""The command line: `python -m pipeline COMMAND …`. Parses, calls, prints, and turns errors into exit codes.

Nothing heavy is imported here: `run` with nothing to do must end in a fraction of a second.
"""

from __future__ import annotations

import argparse
import errno
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import __version__, commands, health_commands, version_commands
from pipeline.commands import Options
from pipeline.console import Console
from pipeline.errors import ArtifactError, PipelineError, UsageError, did_you_mean

_DISK = {
    errno.ENOSPC: (
        "the disk is full",
        "Free some space (`python -m pipeline gc` lists what is not needed), then run the same command.",
    ),
    errno.EROFS: ("the file system is read-only", "Choose another --workspace, or make it writable."),
    errno.EACCES: ("permission denied", "Check who owns the folder, or choose another --workspace."),
    errno.EPERM: ("not permitted", "Check who owns the folder, or choose another --workspace."),
    errno.EDQUOT if hasattr(errno, "EDQUOT") else -1: (
        "the disk quota is used up",
        "Free some space, then run the same command.",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see errors.py)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(as_json="--json" in argv, quiet="--quiet" in argv)
    try:
        options = _parse(argv)
        command: Callable[[Options, Console], int] = options.command
        return command(options, console)
    except PipelineError as error:
        return _fail(error, console)
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in _DISK:
            what, hint = _DISK[error.errno]
            return _fail(
                ArtifactError(f"{error.filename}: {what}." if error.filename else f"{what[0].upper()}{what[1:]}.", hint), console
            )
        return _bug()
    except Exception:  # noqa: BLE001 - the one place where a bug becomes an exit code
        return _bug()


def _fail(error: PipelineError, console: Console) -> int:
    print(console.style("error: ", "red", "bold") + str(error), file=sys.stderr, flush=True)
    if console.as_json:
        document = {"message": error.message, "hint": error.hint, "problems": error.problems, "exit_code": error.exit_code}
        console.json({"error": document})
    return error.exit_code


def _bug() -> int:
    traceback.print_exc()
    print("This is a bug in yolo-pipeline; please report the lines above and the command.", file=sys.stderr)
    return 1


_WITH_VALUE = frozenset(
    {"--params", "--workspace", "--set", "--force", "--model", "--out", "--confidence", "--device", "--to", "--from", "--images"}
    | {"--ignore", "--pictures", "--format", "--detections"}
)
"""Options whose next word is their value, whatever it looks like."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message, f"See `{self.prog} --help`.")


def _parse(argv: list[str]) -> Options:
    parser, names = _build_parser()
    first = next((word for word in argv if not word.startswith("-")), None)
    if argv and argv[0].startswith("-") and any(word in names for word in argv):
        raise UsageError(f"The command comes first, then '{argv[0]}'.", "For example: python -m pipeline run all --quiet")
    if first is not None and first not in names:
        raise UsageError(f"Unknown command '{first}'.", did_you_mean(first, names))
    words, settings = _bare_settings(argv)
    options = parser.parse_args(words, namespace=Options())
    if not hasattr(options, "command"):
        parser.print_help()
        raise SystemExit(2)
    options.overrides = [*options.overrides, *settings]
    return options


def _bare_settings(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split off the bare `section.key=value` words, which may stand anywhere, from everything else."""
    words: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        bare = re.fullmatch(r"[A-Za-z_][\w.]*=.*", word, re.DOTALL) and before not in _WITH_VALUE
        (settings if bare else words).append(word)
    return words, settings


def _build_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    common = _Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--params", type=Path, metavar="FILE", help="the params file (default: params.yaml)")
    common.add_argument("--workspace", type=Path, metavar="DIR", help="where datasets/ and runs/ live (default: here)")
    common.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="e.g. train.epochs=20")
    common.add_argument("--json", action="store_true", help="print one JSON document to stdout")
    common.add_argument("--quiet", action="store_true", help="print results and errors only")

    parser = _Parser(
        prog="python -m pipeline", allow_abbrev=False, description="From photos and labels to a detector you can trust."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)

    def add(name: str, function: Callable[[Options, Console], int], text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)
        sub.set_defaults(command=function)
        return sub

    run = add("run", commands.run, "run stages; what is up to date is reused")
    run.add_argument(
        "words", nargs="*", metavar="STAGE", help="all, names, or ranges (preprocess..train); key=value sets a param"
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--force", action="append", default=[], metavar="STAGE", help="run this stage even if it is up to date")
    add("status", commands.status, "which stages are up to date, and why others are not")
    versions = add("versions", version_commands.versions, "list versions")
    versions.add_argument("stage", nargs="?", metavar="STAGE")
    show = add("show", version_commands.show, "manifest, counts, metrics and files of a version")
    show.add_argument("version", metavar="STAGE[@vN]")
    diff = add("diff", version_commands.diff, "params, inputs, counts and metrics of two versions side by side")
    diff.add_argument("first", metavar="STAGE@v2")
    diff.add_argument("second", metavar="STAGE@v3")
    verify = add("verify", version_commands.verify, "check versions against the hashes in their manifests")
    verify.add_argument("version", nargs="?", metavar="STAGE[@vN]")
    gc = add("gc", version_commands.gc, "list versions that nothing needs any more, and delete them if you agree")
    gc.add_argument("--yes", action="store_true", help="do not ask")
    tag = add("tag", version_commands.tag, "name a version, which also protects it from gc")
    tag.add_argument("version", metavar="STAGE@vN")
    tag.add_argument("name", metavar="NAME")
    predict = add("predict", commands.predict, "try the model on photos: pictures with boxes, and JSON")
    predict.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="images, or folders of images")
    predict.add_argument("--model", metavar="MODEL", help="train@vN (default: the latest), or a .pt, .onnx or .tflite file")
    predict.add_argument(
        "--confidence",
        type=float,
        help="0 to 1; default: the threshold that the newest evaluate of this model used (its best mean F1, or "
        "evaluate.confidence); for a file, or without one, 0.25",
    )
    predict.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="default: predictions")
    predict.add_argument("--device", default="auto", help="auto, cpu, mps, cuda")
    convert = add("convert", commands.convert, "labels of one format to another; needs no project")
    convert.add_argument(
        "source", type=Path, metavar="SRC", help="folder of labels, and of images unless --images says otherwise"
    )
    convert.add_argument("target", type=Path, metavar="DST", help="new folder")
    convert.add_argument("--to", required=True, metavar="FORMAT", help="docs/formats.md lists them")
    convert.add_argument("--from", dest="from_format", default="auto", metavar="FORMAT", help="default: found by content")
    convert.add_argument("--images", type=Path, metavar="DIR", help="where the images are, if not with the labels")
    convert.add_argument("--no-images", action="store_true", help="labels alone, by the sizes that they declare")
    check = add("check", health_commands.check, "what is wrong with a data set: labels, images, leakage, drift")
    check.add_argument(
        "subject", nargs="?", metavar="PATH|STAGE@vN", help="default: the latest split, or what there is before it"
    )
    check.add_argument("--strict", action="store_true", help="exit code 3 when there is an error")
    check.add_argument("--fix", action="store_true", help="make a version of annotate without what can be mended by rule")
    check.add_argument("--ignore", action="append", default=[], metavar="CODE", help="leave out this finding")
    check.add_argument("--pictures", type=Path, metavar="DIR", help="a page with pictures of what was found")
    check.add_argument("--format", default="auto", metavar="FORMAT", help="of the labels in PATH; default: found by content")
    check.add_argument("--model", metavar="MODEL", help="train@vN or a model file: where does it disagree with the labels?")
    check.add_argument(
        "--detections", metavar="WHAT", help="evaluate@vN or a detections.parquet: the same without running a model"
    )
    add("doctor", commands.doctor, "machine, GPU, packages, network and disk")
    init = add("init", commands.init, "make a new project with a commented params.yaml")
    init.add_argument("folder", type=Path, metavar="DIR")
    return parser, list(subparsers.choices)
