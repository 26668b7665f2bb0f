"""The commands about versions: list, show, compare, verify, tag and delete them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.commands import Options, Project
from pipeline.console import Console, duration, size
from pipeline.errors import UsageError
from pipeline.runner import Runner
from pipeline.store import Version

JSON = dict[str, Any]


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
    executor = project.runner(options, console)
    doomed, work = _garbage(project, executor)
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
        # Looked at again: a run may have ended, or begun to need something, while the question was asked.
        still_doomed, still_work = _garbage(project, executor)
        doomed = [version for version in doomed if version in still_doomed]
        work = [path for path in work if path in still_work]
        for version in doomed:
            project.store.delete(version)
        for path in work:
            shutil.rmtree(path)
    console.say(f"deleted {len(doomed)} versions and {len(work)} unfinished folders")
    return 0


def _garbage(project: Project, executor: Runner) -> tuple[list[Version], list[Path]]:
    """Versions that nothing needs, and work folders of runs that did not finish."""
    plan = executor.plan(list(project.stages), tolerant=True)
    current = {(step.stage, step.version.number) for step in plan.steps if step.version}
    return project.store.unneeded(current), project.store.abandoned_work()


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
