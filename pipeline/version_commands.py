"""The commands that look at versions and name them: versions, show, diff, tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.commands import Options, Project
from pipeline.console import Console, duration, size
from pipeline.errors import UsageError
from pipeline.store import Store, Version
from pipeline.version import REMEDY
from pipeline.wording import plural

JSON = dict[str, Any]


def versions(options: Options, console: Console) -> int:
    store = Project.open(options).store
    names = [options.stage] if options.stage else store.names
    found = [version for name in names for version in store.every(name)]
    if console.as_json:
        console.json(
            {"versions": [{**_brief(v), "tags": store.tags_of(v), "damaged": store.damage(v)} for v in found]},
        )
        return 0
    rows = [_version_row(version, store.damage(version), " ".join(store.tags_of(version))) for version in found]
    if rows:
        console.table(("version", "made (UTC)", "took", "size", "holds", "tags"), rows)
    else:
        console.say("no versions yet; `python -m pipeline run all` makes them")
    if any(store.damage(version) for version in found):
        console.say(f"\n{REMEDY}", "red")
    return 0


def _version_row(version: Version, damage: Sequence[str], tags: str) -> tuple[str, ...]:
    if version.fault:
        return version.name, "", "", "", f"damaged: {version.fault}", tags
    manifest = version.manifest
    return (
        version.name,
        manifest["started_at"].replace("T", " ").removesuffix("Z"),
        duration(manifest["seconds"]),
        size(manifest["files"]["bytes"]),
        f"damaged: {damage[0]}" if damage else manifest["headline"],
        tags,
    )


def _brief(version: Version) -> JSON:
    if version.fault:
        return {"stage": version.stage, "version": version.number}
    manifest = version.manifest
    return {key: manifest[key] for key in ("stage", "version", "digest", "started_at", "seconds", "files", "summary")}


def show(options: Options, console: Console) -> int:
    store = Project.open(options, console).store
    version = store.resolve(options.version, damaged=True)
    manifest = version.manifest
    damage = store.damage(version)
    names = sorted(version.checksums())
    if console.as_json:
        console.json({**manifest, "path": str(version.path), "file_names": names, "damaged": damage})
        return 0
    console.say(f"{version.name}  {manifest['headline']}", "bold")
    if damage:
        console.say(f"  damaged: {damage[0]}. {REMEDY}", "red")
    console.say(f"  {version.path}")
    inputs = ", ".join(f"{stage}@v{entry['version']}" for stage, entry in manifest["recipe"]["inputs"].items())
    about = manifest["machine"]
    facts = {
        "made": f"{manifest['started_at']} in {duration(manifest['seconds'])}, commit {manifest['git_commit'][:12] or 'unknown'}",
        "machine": f"{about['cpu']}, {plural(about['cores'], 'core')}, {about['memory_gib']} GiB, {about['os']}",
        "inputs": inputs or "none",
        "digest": manifest["digest"],
    }
    console.table(("", ""), list(facts.items()))
    for title, values in (("params", manifest["recipe"]["params"]), ("summary", manifest["summary"])):
        console.say(f"\n{title}", "bold")
        console.table(("key", "value"), sorted(flatten(values).items()))
    console.say(f"\n{plural(manifest['files']['count'], 'file')}, {size(manifest['files']['bytes'])}", "bold")
    for name in names[:20]:
        console.say(f"  {name}")
    if len(names) > 20:
        console.say(f"  … and {len(names) - 20:,} more")
    return 0


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as `a.b.c → value`; in lists of mappings each is one value, without what is empty in it."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value, 1):
                said = {inner: setting for inner, setting in flatten(each).items() if setting not in ("", None, [], {})}
                flat[f"{prefix}{key}.{number}"] = ", ".join(f"{inner}: {setting}" for inner, setting in said.items())
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def diff(options: Options, console: Console) -> int:
    store = Project.open(options, console).store
    first, second = store.resolve(options.first, damaged=True), store.resolve(options.second, damaged=True)
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


def tag(options: Options, console: Console) -> int:
    """Give a name to a version, take one away, or list them."""
    store = Project.open(options, console).store
    if options.remove is not None:
        if options.version or options.list_tags:
            raise UsageError("--remove stands alone.", "For example: python -m pipeline tag --remove train@best")
        return _untag(options.remove, store, console)
    if options.version is None or options.list_tags:
        return _list_tags(store, console)
    if options.name is None:
        raise UsageError("A tag needs a name.", f"For example: python -m pipeline tag {options.version} best")
    version = store.resolve(options.version)
    before = store.tag(version, options.name)
    moved = f", no longer {before}" if before not in ("", version.label) else ""
    console.say(f"{version.stage}@{options.name} is now {version.label}{moved}")
    if moved:
        console.say(f"`gc` may delete {version.stage}@{before} when nothing else needs it", "dim")
    if console.as_json:
        console.json({"version": version.name, "tag": options.name, "before": f"{version.stage}@{before}" if before else None})
    return 0


def _untag(reference: str, store: Store, console: Console) -> int:
    stage, at, name = reference.partition("@")
    if not at:
        raise UsageError(
            f"'{reference}' is not of the form STAGE@NAME.", "For example: python -m pipeline tag --remove train@best"
        )
    label = store.untag(stage, name)
    console.say(f"{stage}@{label} is no longer {reference}")
    if console.as_json:
        console.json({"version": f"{stage}@{label}", "removed": name})
    return 0


def _list_tags(store: Store, console: Console) -> int:
    rows = [(stage, name, label) for stage in store.names for name, label in sorted(store.tags(stage).items())]
    if console.as_json:
        console.json({"tags": [{"version": f"{stage}@{label}", "tag": name} for stage, name, label in rows]})
    elif rows:
        console.table(("tag", "version"), [(f"{stage}@{name}", f"{stage}@{label}") for stage, name, label in rows])
    else:
        console.say("no tags yet; for example: python -m pipeline tag train@v1 best")
    return 0
