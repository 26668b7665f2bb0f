"""The commands of the command line, one function each: `command(options, console) -> exit code`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files, params, runner
from pipeline.console import Console, duration, size
from pipeline.errors import DataError, UsageError
from pipeline.runner import Runner, Step
from pipeline.stage import Stage
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
    name: str
    folder: Path
    yes: bool
    photos: list[Path]
    model: str | None
    confidence: float | None
    out: Path
    device: str


@dataclass(frozen=True)
class Project:
    """What most commands need: the stages and the workspace."""

    stages: dict[str, Stage]
    store: Store

    @classmethod
    def open(cls, options: Options) -> Project:
        stages = runner.discover()
        workspace = options.workspace or (options.params.parent if options.params and options.params.is_dir() else Path.cwd())
        return cls(stages, Store(workspace.resolve(), {name: stage.root for name, stage in stages.items()}))

    def runner(self, options: Options, console: Console) -> Runner:
        words = [word for word in getattr(options, "words", []) if "=" in word]
        path = options.params or Path(params.FILE_NAME)
        loaded = params.load(path, self.stages, [*options.overrides, *words])
        return Runner(self.stages, loaded, self.store, console)


def run(options: Options, console: Console) -> int:
    project = Project.open(options)
    selected = runner.select([word for word in options.words if "=" not in word], project.stages)
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
    project = Project.open(options)
    plan = project.runner(options, console).plan(list(project.stages))
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
    if console.as_json:
        console.json({"stages": documents, "unfinished": [path.name for path in project.store.abandoned_work()]})
        return 0
    console.table(("stage", "version", "state", "holds"), rows)
    for path in project.store.abandoned_work():
        console.say(f"  unfinished work: {path.name} (the same recipe goes on there; `gc` removes it)", "dim")
    return 0


def versions(options: Options, console: Console) -> int:
    project = Project.open(options)
    names = [options.stage] if options.stage else list(project.stages)
    found = [version for name in names for version in project.store.versions(name)]
    tags = {name: project.store.tags(name) for name in names}
    if console.as_json:
        console.json({"versions": [{**_brief(version), "tags": _tags_of(version, tags)} for version in found]})
        return 0
    rows = [
        (
            version.name,
            version.manifest["started_at"].replace("T", " ").removesuffix("Z"),
            duration(version.manifest["seconds"]),
            size(version.manifest["files"]["bytes"]),
            version.manifest["headline"],
            " ".join(_tags_of(version, tags)),
        )
        for version in found
    ]
    if rows:
        console.table(("version", "made (UTC)", "took", "size", "holds", "tags"), rows)
    else:
        console.say("no versions yet; `python -m pipeline run all` makes them")
    return 0


def _brief(version: Version) -> JSON:
    manifest = version.manifest
    return {key: manifest[key] for key in ("stage", "version", "digest", "started_at", "seconds", "files", "summary")}


def _tags_of(version: Version, tags: Mapping[str, Mapping[str, str]]) -> list[str]:
    return sorted(tag for tag, name in tags[version.stage].items() if name == f"v{version.number}")


def show(options: Options, console: Console) -> int:
    version = Project.open(options).store.resolve(options.version)
    manifest = version.manifest
    names = sorted(version.checksums())
    if console.as_json:
        console.json({**manifest, "path": str(version.path), "file_names": names})
        return 0
    console.say(f"{version.name}  {manifest['headline']}", "bold")
    console.say(f"  {version.path}")
    inputs = ", ".join(f"{stage}@v{entry['version']}" for stage, entry in manifest["recipe"]["inputs"].items())
    facts = {
        "made": f"{manifest['started_at']} in {duration(manifest['seconds'])}, commit {manifest['git_commit'][:12] or 'unknown'}",
        "machine": ", ".join(str(manifest["machine"][key]) for key in ("cpu", "cores", "memory_gib", "os")),
        "inputs": inputs or "none",
        "digest": manifest["digest"],
    }
    console.table(("", ""), list(facts.items()))
    for title, values in (("params", manifest["recipe"]["params"]), ("summary", manifest["summary"])):
        console.say(f"\n{title}", "bold")
        console.table(("key", "value"), sorted(flatten(values).items()))
    console.say(f"\n{manifest['files']['count']:,} files, {size(manifest['files']['bytes'])}", "bold")
    for name in names[:20]:
        console.say(f"  {name}")
    if len(names) > 20:
        console.say(f"  … and {len(names) - 20:,} more")
    return 0


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as `a.b.c → value`."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def diff(options: Options, console: Console) -> int:
    store = Project.open(options).store
    first, second = store.resolve(options.first), store.resolve(options.second)
    if first.stage != second.stage:
        raise UsageError(f"{first.name} and {second.name} are of different stages.", "Compare two versions of one stage.")
    parts = {
        "params": [version.manifest["recipe"]["params"] for version in (first, second)],
        "inputs": [{k: f"v{v['version']}" for k, v in x.manifest["recipe"]["inputs"].items()} for x in (first, second)],
        "libraries": [version.manifest["recipe"]["libraries"] for version in (first, second)],
        "summary": [version.manifest["summary"] for version in (first, second)],
    }
    document: dict[str, list[JSON]] = {}
    for part, (old, new) in parts.items():
        before, after = flatten(old), flatten(new)
        document[part] = [
            {"key": key, "first": before.get(key), "second": after.get(key)}
            for key in dict.fromkeys([*before, *after])
            if before.get(key) != after.get(key)
        ]
    if console.as_json:
        console.json({"first": first.name, "second": second.name, "same_bytes": first.digest == second.digest, **document})
        return 0
    for part, rows in document.items():
        if rows:
            console.say(f"\n{part}", "bold")
            console.table(("key", first.name, second.name), [_diff_row(row) for row in rows])
    if not any(document.values()):
        console.say("no difference in params, inputs, libraries or summary")
    console.say("\nthe files are the same, byte for byte" if first.digest == second.digest else "\nthe files differ", "dim")
    return 0


def _diff_row(row: JSON) -> tuple[str, str, str]:
    old, new = row["first"], row["second"]
    change = f"  ({new - old:+.4g})" if all(isinstance(x, int | float) and not isinstance(x, bool) for x in (old, new)) else ""
    return row["key"], _cell(old), _cell(new) + change


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def verify(options: Options, console: Console) -> int:
    project = Project.open(options)
    if options.version:
        found = [project.store.resolve(options.version)] if "@" in options.version else project.store.versions(options.version)
    else:
        found = [version for name in project.stages for version in project.store.versions(name)]
    results: dict[str, list[str]] = {}
    with console.progress("verify", sum(version.manifest["files"]["count"] for version in found)) as advance:
        for version in found:
            results[version.name] = project.store.verify(version, advance)
    bad = {name: problems for name, problems in results.items() if problems}
    if console.as_json:
        console.json({"versions": results, "intact": not bad})
    for name, problems in results.items():
        console.say(f"  {name}  {'intact' if not problems else ''}".rstrip())
        for problem in problems[:20]:
            console.say(f"    {problem}", "red")
        if len(problems) > 20:
            console.say(f"    … and {len(problems) - 20} more", "red")
    if bad:
        console.say(
            f"\n{len(bad)} of {len(results)} versions are not what was published; run those stages again with --force", "red"
        )
        return 5
    console.say(f"\n{len(results)} versions intact")
    return 0


def gc(options: Options, console: Console) -> int:
    project = Project.open(options)
    current: set[tuple[str, int]] = set()
    try:
        plan = project.runner(options, console).plan(list(project.stages))
        current = {(step.stage, step.version.number) for step in plan.steps if step.version}
    except DataError as error:
        console.warn(f"the params cannot be planned ({error.message}); only the latest and tagged versions are kept")
    doomed = project.store.unneeded(current)
    work = project.store.abandoned_work()
    if console.as_json:
        console.json({"versions": [version.name for version in doomed], "unfinished": [path.name for path in work]})
    if not doomed and not work:
        console.say("nothing to delete: every version is the latest, tagged, or an input of one that is")
        return 0
    rows = [(v.name, size(v.manifest["files"]["bytes"]), v.manifest["headline"]) for v in doomed]
    console.table(("unneeded", "size", "holds"), [*rows, *((f".tmp/{path.name}", "", "unfinished work") for path in work)])
    if not options.yes and not (sys.stdin.isatty() and not console.as_json and _agrees()):
        console.say("nothing was deleted; `gc --yes` deletes these")
        return 0
    with project.store.lock():
        for version in doomed:
            project.store.delete(version)
        for path in work:
            shutil.rmtree(path)
    console.say(f"deleted {len(doomed)} versions and {len(work)} unfinished folders")
    return 0


def _agrees() -> bool:
    return input("Delete these? [y/N] ").strip().lower() in ("y", "yes")


def tag(options: Options, console: Console) -> int:
    store = Project.open(options).store
    version = store.resolve(options.version)
    store.tag(version, options.name)
    console.say(f"{version.name} is now {version.stage}@{options.name}")
    if console.as_json:
        console.json({"version": version.name, "tag": options.name})
    return 0


def predict(options: Options, console: Console) -> int:
    from pipeline import predicting

    store = Project.open(options).store
    confidence = options.confidence
    if options.model is not None and Path(options.model).is_file():
        model = Path(options.model)
    else:
        version = store.resolve(options.model or "train")
        model = version.path / "weights" / "best.pt"
        if version.stage != "train":
            raise UsageError(f"{version.name} is no model.", "Give train@vN, or a file such as runs/export/v1/onnx/best.onnx.")
        if confidence is None:
            confidence = predicting.recommended_confidence(store, version)
    threshold = predicting.DEFAULT_CONFIDENCE if confidence is None else confidence
    photos = predicting.find_photos(options.photos)
    with console.progress("predict", len(photos)) as advance:
        results = predicting.predict(model, photos, threshold, options.out, options.device, store.cache, advance)
    for result in results:
        counts = Counter(item["class"] for item in result["objects"])
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        console.say(f"  {result['image']}: {found}")
    console.say(f"\n{model}, confidence {threshold:g}; pictures and detections.json are in {options.out}")
    if console.as_json:
        console.json({"model": str(model), "confidence": threshold, "images": results})
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


def init(options: Options, console: Console) -> int:
    target = options.folder / params.FILE_NAME
    if target.exists():
        raise UsageError(f"{target} exists already.", "Choose another folder; yours is left as it is.")
    try:
        files.copy(TEMPLATE, target)
    except NotADirectoryError as error:
        raise UsageError(f"{options.folder} is not a folder.") from error
    ignore = options.folder / ".gitignore"
    if not ignore.exists():
        files.write_text(ignore, "/datasets/\n/runs/\n/.cache/\n.env\n")
    console.say(f"made {target}")
    console.say(f"next: cd {options.folder}; edit params.yaml (collect.source is your images); python -m pipeline run all")
    if console.as_json:
        console.json({"params": str(target)})
    return 0
