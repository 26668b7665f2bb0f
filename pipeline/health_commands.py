"""The command about the health of a data set: `check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import machine, params
from pipeline.commands import Options, Project, find_model
from pipeline.console import Console
from pipeline.errors import DataError, UsageError
from pipeline.sources import local_path
from pipeline.stage import Context
from pipeline.stages import annotate
from pipeline.store import Store, Version
from pipeline.wording import plural

if TYPE_CHECKING:
    from pipeline.health.examine import Opinions
    from pipeline.health.findings import Finding
    from pipeline.health.opening import Subject

DATA_STAGES = ("split", "preprocess", "annotate")
"""Whose latest version is examined when none is named: the first that has one."""

SHOWN = 3
"""Items of a finding in the table; `--json` has up to 20."""
BATCH = 16
REPAIR = "annotate.repair"
MENDED_BY_DROPPING = frozenset({"not_finite", "zero_area", "outside_image", "duplicate_box", "duplicate_image"})
"""Ledger reasons; what else was left out was the user's wish, or is still wrong."""


def check(options: Options, console: Console) -> int:
    """Examine a data set and tell what was found; 3 with `--strict` when there is an error."""
    from pipeline.health import findings as table
    from pipeline.health import opening
    from pipeline.health.examine import examine

    if options.model is not None and options.detections is not None:
        raise UsageError("--model and --detections exclude each other.", "Give the one whose boxes the labels are held against.")
    project = Project.open(options, console)
    if options.fix:
        options.subject = _mended(options, project, console)
    settings = _Settings.read(options, project, console)
    table.require_known(settings.ignore)
    folder, name = _folder(options, project.store)
    _require_outside(options.pictures, folder)
    wishes = settings.wishes(folder)
    # Whatever can be mended is, whatever the params say, so that one defect does not hide the next.
    given = {"on_invalid": "fix"} | ({"format": options.format} if options.format != "auto" else {})
    policies = annotate.policies(wishes, **given)
    subject = opening.open_folder(folder, settings.context, name, policies, wishes.classes if wishes.sources else None)
    opinions = _opinions(options, project.store, subject, settings.context)
    found = examine(subject, settings.context, settings.ignore, settings.distance, opinions, options.pictures)
    counts = table.counts(found)
    _say(found, counts, subject, console)
    if options.pictures is not None:
        console.say(f"\npictures: {options.pictures / 'index.html'}", "bold")
    if console.as_json:
        about = {"subject": subject.name, "images": len(subject.dataset.images), "boxes": len(subject.dataset.boxes)}
        console.json({**about, "findings": [asdict(one) for one in found], "counts": counts})
    return DataError.exit_code if options.strict and counts["error"] else 0


def _mended(options: Options, project: Project, console: Console) -> str:
    """The version of annotate without what can be mended by rule, which is made here; each repair stands in its ledger.

    A version like any other, of the recipe with `annotate.repair: true`: with that in params.yaml, all stages go on from it.
    """
    if options.subject is not None and options.subject.partition("@")[0] != "annotate":
        raise UsageError(
            f"--fix makes a version of annotate, not of {options.subject}.",
            "For a folder of labels: `python -m pipeline convert SRC DST --to FORMAT annotate.repair=true`.",
        )
    options.overrides = [*options.overrides, f"{REPAIR}=true"]
    outcome = project.runner(options, console).run(["collect", "annotate"])[-1]
    repairs = 0
    for what, count in outcome.version.manifest["summary"]["ledger"].items():
        action, _, reason = what.partition(" ")[2].partition(": ")
        if action in ("clipped", "fixed") or (action == "dropped" and reason in MENDED_BY_DROPPING):
            console.say(f"  {count:,} × {what}")
            repairs += count
    name = outcome.version.name
    said = f"mended: {name}; to go on from it, set {REPAIR}: true in params.yaml" if repairs else f"{name}: nothing to mend"
    console.say(f"{said}\n", "bold")
    return outcome.version.name


@dataclass(frozen=True)
class _Settings:
    """What params.yaml says, where there is one; a folder can be checked without.

    Attributes:
        ignore: codes to leave out, those of the command line among them.
        distance: of near-duplicates; as split has it, or its default.
        project: the section annotate of params.yaml, and of the command line.
        command_line: that of the command line alone.
        source: the folder that `collect.source` names, if it names one.
    """

    context: Context
    ignore: list[str]
    distance: int
    project: annotate.Params
    command_line: annotate.Params
    source: Path

    def wishes(self, folder: Path) -> annotate.Params:
        """How to import a folder: what params.yaml says is meant for the project's own images, not for those of any folder."""
        from pipeline.datacard import read_origin
        from pipeline.sources import ORIGINS

        if (folder / ORIGINS).exists():
            return annotate.for_collected(self.project, read_origin(folder))
        return self.project if folder.resolve() == self.source.resolve() else self.command_line

    @classmethod
    def read(cls, options: Options, project: Project, console: Console) -> _Settings:
        from pipeline.health.duplicates import DISTANCE

        path = options.params or Path(params.FILE_NAME)
        alone = params.from_settings(project.stages, options.overrides)
        loaded = params.load(path, project.stages, options.overrides) if options.params or path.exists() else alone
        workers = machine.usable_cores() if loaded.workers == "auto" else loaded.workers
        distance = getattr(loaded.stages.get("split"), "duplicate_distance", DISTANCE)
        context = Context(loaded.base, project.store.cache, loaded.device, workers, progress=console.progress, warn=console.warn)
        source = local_path(getattr(loaded.stages.get("collect"), "source", ""), context)
        return cls(
            context,
            [*options.ignore, *loaded.health.ignore],
            distance,
            _annotate(loaded),
            _annotate(alone),
            source,
        )


def _annotate(loaded: params.Params) -> annotate.Params:
    section = loaded.stages["annotate"]
    assert isinstance(section, annotate.Params)  # what the stage of that name has
    return section


def _folder(options: Options, store: Store) -> tuple[Path, str]:
    """The folder to examine and what to call it.

    Raises:
        UsageError: neither a folder nor a version that holds images, or there is no version yet.
    """
    wanted = options.subject
    if wanted is None and options.detections is not None:
        wanted = _split_of(store, options.detections)
    if wanted is None:
        latest = next(filter(None, map(store.latest, DATA_STAGES)), None)
        if latest is None:
            raise UsageError(
                "There is no version to check yet.", "Name a folder of images and labels, or run the pipeline first."
            )
        return latest.path, latest.name
    if Path(wanted).is_dir():
        return Path(wanted), wanted
    if "/" in wanted or "\\" in wanted:
        raise DataError(f"There is no folder {wanted}.", "Give a folder of images and labels, or a version such as split@v1.")
    version = store.resolve(wanted)
    if not (version.path / "images.parquet").exists() and version.stage != "collect":
        raise UsageError(f"{version.name} holds no images.", "Versions of collect, annotate, preprocess, split and augment do.")
    return version.path, version.name


def _require_outside(pictures: Path | None, folder: Path) -> None:
    if pictures is not None and pictures.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"--pictures {pictures} lies in the data set itself.", "Choose a folder outside of it.")


def _split_of(store: Store, detections: str) -> str | None:
    """The split version that an evaluation measured on; None where the detections are a file."""
    version = _evaluation(store, detections)
    return f"split@v{version.manifest['recipe']['inputs']['split']['version']}" if version else None


def _evaluation(store: Store, detections: str) -> Version | None:
    is_version = not Path(detections).exists() and detections.partition("@")[0] == "evaluate"
    return store.resolve(detections) if is_version else None


def _opinions(options: Options, store: Store, subject: Subject, context: Context) -> Opinions | None:
    from pipeline.health import opinions

    if options.detections is not None:
        version = _evaluation(store, options.detections)
        path = version.path if version else Path(options.detections)
        answers = opinions.of_table(path, subject.dataset)
        return lambda looks: answers
    if options.model is None:
        return None
    from pipeline import runtimes
    from pipeline.health.model import HINT
    from pipeline.inference import Thresholds

    model = find_model(store, options.model)
    load = runtimes.LoadOptions(thresholds=Thresholds(confidence=HINT), batch=BATCH, cache=context.cache)
    predictor = runtimes.for_file(model).load(model, context.device, load)
    return lambda looks: opinions.of_model(predictor, subject.dataset, subject.folder, looks, BATCH, context)


# ---------------------------------------------------------------- for people


def _say(found: Sequence[Finding], counts: dict[str, int], subject: Subject, console: Console) -> None:
    marks = {"error": ("XX", "red"), "warning": ("!!", "yellow"), "info": ("  ", "dim")}
    width = max((len(one.code) for one in found), default=0)
    digits = max((len(f"{one.count:,}") for one in found), default=0)
    indent = " " * (width + digits + 10)
    images, boxes = plural(len(subject.dataset.images), "image"), plural(len(subject.dataset.boxes), "box", "boxes")
    console.say(f"{subject.name}: {images}, {boxes}", "bold")
    for one in found:
        mark, style = marks[one.severity]
        console.say(f"  {console.style(mark, style)}  {one.code.ljust(width)}  {one.count:>{digits},}  {one.title}")
        if one.detail:
            console.say(f"{indent}{_printable(one.detail)}", "dim")
        for item in one.items[:SHOWN] if one.severity != "info" else ():
            console.say(f"{indent}{_printable(item.told())}")
        if one.severity != "info":
            if one.count > SHOWN:
                console.say(f"{indent}… and {one.count - SHOWN:,} more")
            console.say(f"{indent}→ {one.remedy}", "dim")
    told = [plural(counts[key], word) for key, word in (("error", "error"), ("warning", "warning"), ("info", "note"))]
    console.say("\n" + ", ".join(told), "bold")


def _printable(text: str) -> str:
    """Without what would steer a terminal: names and details come from files of anybody's making."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
