"""The commands of the command line, one function each: `command(options, console) -> exit code`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files, machine, params, runner
from pipeline.console import Console, duration
from pipeline.errors import DataError, UsageError
from pipeline.runner import Runner, Step
from pipeline.stage import Context, Stage, counted
from pipeline.store import Store, Version

JSON = dict[str, Any]

TEMPLATE = Path(__file__).parent / "templates" / params.FILE_NAME


class Options(argparse.Namespace):
    """The parsed command line."""

    command: Any
    params: Path | None
    workspace: Path | None
    overrides: list[str]
    json: bool
    quiet: bool
    words: list[str]
    dry_run: bool
    force: list[str]
    stage: str | None
    version: Any
    first: str
    second: str
    name: str | None
    list_tags: bool
    remove: str | None
    folder: Path
    append: bool
    anew: bool
    license: str
    label_format: str
    source_help: bool
    source_options: list[str]
    yes: bool
    damaged: bool
    source: Any
    target: Path
    to: str
    from_format: str
    images: Path | None
    no_images: bool
    subject: str | None
    strict: bool
    fix: bool
    ignore: list[str]
    pictures: Path | None
    format: str
    detections: str | None
    photos: list[Path]
    model: str | None
    confidence: float | None
    out: Path
    device: str
    list_cells: bool
    keep_names: bool
    quick: bool
    label: str | None
    records: Any
    phase: str
    unlike: bool
    target_fps: float | None
    min_map: float | None
    max_latency: float | None
    max_memory: float | None
    task: str | None


@dataclass(frozen=True)
class Project:
    """What most commands need: the stages and the workspace."""

    stages: dict[str, Stage]
    store: Store

    @classmethod
    def open(cls, options: Options, console: Console | None = None) -> Project:
        """Nothing is made yet: commands that only look need no right to write.

        Args:
            console: hears of damaged versions that are passed over.
        """
        stages = runner.discover()
        workspace = (options.workspace or Path.cwd()).resolve()
        existing = next(folder for folder in (workspace, *workspace.parents) if folder.exists())
        if not existing.is_dir():
            raise UsageError(
                f"The workspace {workspace} cannot be a folder: {existing} is a file.", "Choose another --workspace."
            )
        roots = {name: stage.root for name, stage in stages.items()}
        return cls(stages, Store(workspace, roots, console.warn if console else None))

    def runner(self, options: Options, console: Console, sections: Mapping[str, JSON] | None = None) -> Runner:
        """`sections` of the command line take the place of those of params.yaml."""
        loaded = params.load(options.params or Path(params.FILE_NAME), self.stages, options.overrides, sections)
        return Runner(self.stages, loaded, self.store, console)


def run(options: Options, console: Console) -> int:
    project = Project.open(options, console)
    selected = runner.select(options.words, project.stages)
    forced = runner.select(options.force, project.stages) if options.force else []
    # A stage that is forced is also meant to run.
    selected = [name for name in project.stages if name in selected or name in forced]
    executor = project.runner(options, console)
    if options.dry_run:
        plan = executor.plan(selected, forced)
        console.plan(plan.steps)
        if console.as_json:
            console.json({"plan": [_step_json(step) for step in plan.steps]})
        return 0
    outcomes = executor.run(selected, forced)
    if console.as_json:
        documents = [
            {
                "stage": outcome.stage,
                "version": outcome.version.number,
                "path": str(outcome.version.path),
                "reused": outcome.reused,
                "seconds": round(outcome.seconds, 3),
                "summary": outcome.version.manifest["summary"],
            }
            for outcome in outcomes
        ]
        console.json({"stages": documents})
        return 0
    if all(outcome.reused for outcome in outcomes):
        console.say("\nnothing to do: everything is up to date")
    else:
        console.say()
        rows = [(o.version.name, "reused" if o.reused else duration(o.seconds), o.version.manifest["headline"]) for o in outcomes]
        console.table(("version", "time", "result"), rows)
    _say_report(outcomes[-1].version, console)
    return 0


def _say_report(version: Version, console: Console) -> None:
    page = version.path / "report.html"
    if page.exists():
        console.say(f"\nreport: {page}", "bold")


def _step_json(step: Step) -> JSON:
    return {
        "stage": step.stage,
        "action": "run" if step.run else "reuse",
        "reasons": list(step.reasons),
        "version": step.version.number if step.version else step.next_number,
    }


def status(options: Options, console: Console) -> int:
    project = Project.open(options, console)
    plan = project.runner(options, console).plan(list(project.stages), tolerant=True)
    rows = []
    documents = []
    for step in plan.steps:
        latest = project.store.latest(step.stage)
        version = step.version or latest
        state = "up to date" if not step.run else ("would run: " + "; ".join(step.reasons))
        rows.append(
            (step.stage, f"v{version.number}" if version else "-", state, version.manifest["headline"] if version else "")
        )
        documents.append({**_step_json(step), "latest": latest.number if latest else None})
    at_work = project.store.holder()
    unfinished = [] if at_work else project.store.abandoned_work()  # of a run that goes on nobody needs to be told what to do
    if console.as_json:
        console.json({"stages": documents, "unfinished": [path.name for path in unfinished], "running": at_work})
        return 0
    console.table(("stage", "version", "state", "holds"), rows)
    if at_work:
        console.say(f"  a run is at work: {at_work}", "dim")
    for path in unfinished:
        console.say(f"  unfinished work: {path.name} (the same recipe goes on there; `gc` removes it)", "dim")
    return 0


def find_model(store: Store, wanted: str | None) -> Path:
    """The model file that `--model` names: a file, or that of a version of train (the latest by default).

    Raises:
        DataError: there is no such file.
        UsageError: a version of another stage.
    """
    if wanted is not None and (Path(wanted).is_file() or Path(wanted).suffix):
        if not Path(wanted).is_file():
            raise DataError(f"There is no file {wanted}.", "Give a model file, or train@vN.")
        return Path(wanted)
    version = store.resolve(wanted or "train")
    if version.stage != "train":
        raise UsageError(f"{version.name} is no model.", "Give train@vN, or a file such as runs/export/v1/onnx/best.onnx.")
    return version.path / "weights" / "best.pt"


def predict(options: Options, console: Console) -> int:
    from pipeline import predicting

    store = Project.open(options, console).store
    confidence = options.confidence
    if confidence is not None and not 0 <= confidence <= 1:
        raise UsageError(f"--confidence {confidence:g}: a score lies between 0 and 1.")
    model = find_model(store, options.model)
    if confidence is None:
        confidence = predicting.recommended_confidence(store, model)
    threshold = predicting.DEFAULT_CONFIDENCE if confidence is None else confidence
    photos = predicting.find_photos(options.photos)
    _make_folder(options.out, "--out")
    with console.progress("predict", len(photos)) as advance:
        results = predicting.predict(model, photos, threshold, options.out, options.device, store.cache, advance)
    for result in results:
        counts = Counter(item["class"] for item in result["objects"])
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        console.say(f"  {result['image']}: {result['error'] or found}")
    console.say(f"\n{model}, confidence {threshold:g}; pictures and detections.json are in {options.out}")
    if console.as_json:
        console.json({"model": str(model), "confidence": threshold, "images": results})
    return 3 if any(result["error"] for result in results) else 0


def convert(options: Options, console: Console) -> int:
    from pipeline.converting import convert as convert_labels
    from pipeline.stages import annotate

    settings = params.from_settings({"annotate": annotate.STAGE}, options.overrides).stages["annotate"]
    assert isinstance(settings, annotate.Params)  # what the stage of that name has
    if options.no_images and options.images:
        raise UsageError("--images and --no-images contradict each other.", "Give one of them.")
    if settings.sources:
        raise UsageError(
            "convert reads one folder; annotate.sources names several.", "Convert each, or let `run annotate` merge them."
        )
    (policy,) = annotate.policies(settings, format=options.from_format, has_images=not options.no_images)
    context = Context(workers=machine.usable_cores(), progress=console.progress, warn=console.warn)
    done = convert_labels(options.source, options.target, options.to, policy, options.images, context, settings.repair)
    counts = done.dataset.counts()
    if console.as_json:
        console.json(
            {
                **counts,
                "from": done.format,
                "reason": done.reason,
                "to": options.to,
                "path": str(options.target),
                "lost": list(done.lost),
                "ledger": done.ledger.counts(),
            }
        )
        return 0
    console.say(f"read {done.format}: {done.reason}")
    console.table(("class", "boxes"), [(name, f"{count:,}") for name, count in done.dataset.boxes_per_class().items()])
    for what in done.lost:
        console.warn(f"{options.to} cannot hold {what}")
    for reason, count in done.ledger.counts().items():
        console.say(f"  {count:,} × {reason}", "dim")
    console.say(f"\n{counted(counts)} → {options.target} ({options.to})")
    return 0


def doctor(options: Options, console: Console) -> int:
    from pipeline import doctor as checks

    workspace = (options.workspace or Path.cwd()).resolve()
    with console.progress("look around", len(checks.CHECKS)) as advance:
        findings = checks.examine(workspace, advance)
    if console.as_json:
        console.json({"findings": [vars(finding) for finding in findings]})
        return 0
    marks = {"ok": ("ok", "green"), "info": ("  ", "dim"), "warn": ("!!", "yellow"), "bad": ("XX", "red")}
    for finding in findings:
        text, style = marks[finding.level]
        console.say(f"  {console.style(text, style)}  {finding.topic.ljust(22)}  {finding.text}")
        if finding.remedy:
            console.say(f"      {' ' * 22}  → {finding.remedy}", "dim")
    return 0


def _make_folder(folder: Path, argument: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder} cannot be a folder: a file is in its place.", f"Choose another {argument}.") from error
    except FileNotFoundError as error:  # as below /proc, or on a drive that is not there
        raise UsageError(f"No folder can be made at {folder}.", f"Choose another {argument}.") from error


def init(options: Options, console: Console) -> int:
    target = options.folder / params.FILE_NAME
    if target.exists():
        raise UsageError(f"{target} exists already.", "Choose another folder; yours is left as it is.")
    _make_folder(options.folder, "DIR")
    files.copy(TEMPLATE, target)
    ignore = options.folder / ".gitignore"
    if not ignore.exists():
        files.write_text(ignore, "/datasets/\n/runs/\n/.cache/\n.env\n")
    console.say(f"made {target}")
    console.say(f"next: cd {options.folder}; edit params.yaml (collect.source is your images); python -m pipeline run all")
    if console.as_json:
        console.json({"params": str(target)})
    return 0
