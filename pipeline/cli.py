"""The command line: `python -m pipeline COMMAND …`. Parses, calls, prints, and turns errors into exit codes.

Nothing heavy is imported here: `run` with nothing to do must end in a fraction of a second.
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Callable, Collection, Sequence, Set
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Protocol

from pipeline import (
    __version__,
    bench_commands,
    benchmark_command,
    collect_command,
    commands,
    disk_errors,
    health_commands,
    plugins,
    runner,
    upkeep_commands,
    version_commands,
)
from pipeline.commands import Options
from pipeline.console import Console
from pipeline.errors import PipelineError, UsageError, did_you_mean


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see errors.py)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(as_json="--json" in argv, quiet="--quiet" in argv)
    options = Options()
    try:
        _parse(argv, options)
        command: Callable[[Options, Console], int] = options.command
        return command(options, console)
    except PipelineError as error:
        return _fail(error, console)
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except OSError as error:
        workspace = (getattr(options, "workspace", None) or Path.cwd()).resolve()
        targets = [getattr(options, name, None) for name in ("out", "target", "pictures")]
        explained = disk_errors.explain(error, workspace, [target for target in targets if target is not None])
        return _fail(explained, console) if explained else _bug()
    except Exception:  # noqa: BLE001 - the one place where a bug becomes an exit code
        return _bug()


def _fail(error: PipelineError, console: Console) -> int:
    console.error(str(error))
    if console.as_json:
        document = {"message": error.message, "hint": error.hint, "problems": error.problems, "exit_code": error.exit_code}
        console.json({"error": document})
    return error.exit_code


def _bug() -> int:
    traceback.print_exc()
    print("This is a bug in yolo-pipeline; please report the lines above and the command.", file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message, f"See `{self.prog} --help`.")

    def options(self, with_value: bool = False) -> set[str]:
        """The options there are, or those whose next word is their value, whatever it looks like."""
        return {text for action in self._actions if action.nargs != 0 or not with_value for text in action.option_strings}


def _parse(argv: list[str], options: Options) -> None:
    parser, commands_ = _build_parser()
    argv = _joined(argv, commands_)
    first = next((word for word in argv if not word.startswith("-")), None)
    if argv and argv[0].startswith("-") and any(word in commands_ for word in argv):
        raise UsageError(f"The command comes first, then '{argv[0]}'.", "For example: python -m pipeline run all --quiet")
    if first is not None and first not in commands_:
        raise UsageError(f"Unknown command '{first}'.", did_you_mean(first, commands_))
    with_value = set().union(*(command.options(with_value=True) for command in commands_.values()))
    if first == "collect":  # the chosen source has options of its own, and their values may look like settings
        flags = commands_[first].options() - commands_[first].options(with_value=True)
        with_value |= {word for word in argv if word.startswith("--") and "=" not in word} - flags
    words, settings = _bare_settings(argv, with_value)
    if first == "run":
        _refuse_torn(argv, settings)
    _, unknown = parser.parse_known_args(words, namespace=options)
    if first == "collect":
        options.source_options = unknown  # the chosen source knows them
    elif unknown and first is not None:
        raise _unknown(unknown[0], first, commands_[first])
    if not hasattr(options, "command"):
        parser.print_help()
        raise SystemExit(2)
    options.overrides = [*options.overrides, *settings]


def _joined(argv: list[str], commands_: Collection[str]) -> list[str]:
    """Two words that are one command, as one: `benchmark compare`."""
    pair = " ".join(argv[:2])
    return [pair, *argv[2:]] if len(argv) > 1 and pair in commands_ else argv


def _unknown(word: str, name: str, command: _Parser) -> UsageError:
    if not word.startswith("-"):
        return UsageError(f"`{name}` does not take '{word}'.", f"See `{command.prog} --help`.")
    return UsageError(f"`{name}` has no option '{word}'.", did_you_mean(word, command.options(), f"See `{command.prog} --help`."))


def _bare_settings(argv: list[str], with_value: Set[str]) -> tuple[list[str], list[str]]:
    """Split off the bare `section.key=value` words, which may stand anywhere, from everything else."""
    words: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        bare = re.fullmatch(r"[A-Za-z_][\w.]*=.*", word, re.DOTALL) and before not in with_value
        (settings if bare else words).append(word)
    return words, settings


def _refuse_torn(argv: list[str], settings: list[str]) -> None:
    """A value with a blank that was not quoted comes in pieces, and the second would be taken for a stage."""
    stages = ["all", *plugins.names(runner.STAGES_PACKAGE)]
    for setting, word in pairwise(argv):
        if setting not in settings or word in settings or word.startswith("-"):
            continue
        strange = [name for name in word.split("..") if name and name not in stages]
        if strange and not did_you_mean(strange[0], stages, ""):
            rest = takewhile(lambda other: not other.startswith("-"), argv[argv.index(setting) :])
            raise UsageError(
                f"'{word}' is no stage; it seems to belong to '{setting}'.",
                f'Put quotes around a value with blanks: "{" ".join(rest)}"',
            )


class _Add(Protocol):
    """Adds a command."""

    def __call__(self, name: str, function: Callable[[Options, Console], int], text: str, with_help: bool = True) -> _Parser: ...


def _build_parser() -> tuple[_Parser, dict[str, _Parser]]:
    common = _Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--params", type=Path, metavar="FILE", help="the params file (default: params.yaml)")
    common.add_argument("--workspace", type=Path, metavar="DIR", help="where datasets/ and runs/ live (default: here)")
    common.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="e.g. train.epochs=20")
    common.add_argument("--json", action="store_true", help="print one JSON document to stdout")
    common.add_argument("--quiet", action="store_true", help="print nothing but warnings, errors and the document of --json")

    parser = _Parser(
        prog="python -m pipeline", allow_abbrev=False, description="From photos and labels to a detector you can trust."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    found: dict[str, _Parser] = {}

    def add(name: str, function: Callable[[Options, Console], int], text: str, with_help: bool = True) -> _Parser:
        sub = subparsers.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False, add_help=with_help)
        sub.set_defaults(command=function)
        found[name] = sub
        return sub

    _add_making(add)
    _add_versions(add)
    _add_data(add)
    return parser, found


def _add_making(add: _Add) -> None:
    """Commands that make versions."""
    run = add("run", commands.run, "run stages; what is up to date is reused")
    run.add_argument(
        "words", nargs="*", metavar="STAGE", help="all, names, or ranges (preprocess..train); key=value sets a param"
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--force", action="append", default=[], metavar="STAGE", help="run this stage even if it is up to date")
    collect = add("collect", collect_command.collect, "collect images and labels from one more place", with_help=False)
    collect.add_argument("source", nargs="?", metavar="SOURCE", help="a folder, archive, video, address, or a source's name")
    collect.add_argument("-h", "--help", action="store_true", dest="source_help", help="this; after a SOURCE its own options")
    collect.add_argument("--append", action="store_true", help="keep what the last version has, and add to it")
    collect.add_argument("--force", action="store_true", dest="anew", help="ask the source again, even if nothing seems new")
    collect.add_argument("--name", help="the folder that its files get among several sources")
    collect.add_argument("--license", default="", help="of the images, when the source does not state it")
    collect.add_argument("--label-format", default="auto", metavar="FORMAT", help="of its labels; default: found by content")
    collect.set_defaults(usage=collect.format_help)


def _add_versions(add: _Add) -> None:
    """Commands about versions."""
    add("status", commands.status, "which stages are up to date, and why others are not")
    versions = add("versions", version_commands.versions, "list versions")
    versions.add_argument("stage", nargs="?", metavar="STAGE")
    show = add("show", version_commands.show, "manifest, counts, metrics and files of a version")
    show.add_argument("version", metavar="STAGE[@vN]")
    diff = add("diff", version_commands.diff, "params, inputs, counts and metrics of two versions side by side")
    diff.add_argument("first", metavar="STAGE@v2")
    diff.add_argument("second", metavar="STAGE@v3")
    verify = add("verify", upkeep_commands.verify, "check versions against the hashes in their manifests")
    verify.add_argument("version", nargs="?", metavar="STAGE[@vN]")
    gc = add("gc", upkeep_commands.gc, "list versions that nothing needs any more, and delete them if you agree")
    gc.add_argument("--yes", action="store_true", help="do not ask")
    gc.add_argument("--damaged", action="store_true", help="those that verify found damaged instead")
    tag = add("tag", version_commands.tag, "name a version, which also protects it from gc; without arguments: list the tags")
    tag.add_argument("version", nargs="?", metavar="STAGE@vN")
    tag.add_argument("name", nargs="?", metavar="NAME")
    tag.add_argument("--list", action="store_true", dest="list_tags", help="list the tags")
    tag.add_argument("--remove", metavar="STAGE@NAME", help="take a tag away; the version stays")


def _add_data(add: _Add) -> None:
    """Commands about photos, labels and the machine."""
    predict = add("predict", commands.predict, "try the model on photos: pictures with boxes, and JSON")
    predict.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="images, or folders of images")
    predict.add_argument("--model", metavar="MODEL", help="train@vN (default: the latest), or a .pt, .onnx or .tflite file")
    predict.add_argument(
        "--confidence",
        type=float,
        help="0 to 1; default: the threshold that the newest evaluate of this model used (its best mean F1, or "
        "evaluate.confidence); without one, or for a model from elsewhere, 0.25",
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
    check.add_argument("subject", nargs="?", metavar="PATH|STAGE@vN", help="default: the latest split, or one before it")
    check.add_argument("--strict", action="store_true", help="exit code 3 when there is an error")
    check.add_argument("--fix", action="store_true", help="make a version of annotate without what can be mended by rule")
    check.add_argument("--ignore", action="append", default=[], metavar="CODE", help="leave out this finding")
    check.add_argument("--pictures", type=Path, metavar="DIR", help="a page with pictures of what was found")
    check.add_argument("--format", default="auto", metavar="FORMAT", help="of the labels in PATH; default: found by content")
    check.add_argument("--model", metavar="MODEL", help="train@vN or a model file: where does it disagree with the labels?")
    check.add_argument("--detections", metavar="WHAT", help="evaluate@vN or a detections.parquet: the same without a model")
    benchmark_command.add_options(add("benchmark", benchmark_command.measure, "how fast a model is on this machine"))
    packs = add("benchmark pack", benchmark_command.pack, "a zip that measures on a machine without this project")
    benchmark_command.add_pack_options(packs)
    bench_commands.add(add)
    add("doctor", commands.doctor, "machine, GPU, packages, network and disk")
    init = add("init", commands.init, "make a new project with a commented params.yaml")
    init.add_argument("folder", type=Path, metavar="DIR")
