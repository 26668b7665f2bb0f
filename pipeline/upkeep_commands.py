"""The commands that keep a workspace sound and small: verify, gc."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline import files
from pipeline.commands import Options, Project
from pipeline.console import Console, size
from pipeline.errors import ArtifactError
from pipeline.runner import Runner
from pipeline.stage import Advance
from pipeline.store import Store, Version, maker
from pipeline.wording import plural


def verify(options: Options, console: Console) -> int:
    """Hash every version anew; damage is noted in the workspace, so that runs pass the version over until it is whole again."""
    store = Project.open(options).store
    if options.version and "@" in options.version:
        found = [store.resolve(options.version, damaged=True)]
    else:
        names = [options.version] if options.version else store.names
        found = [version for name in names for version in store.every(name)]
    results: dict[str, list[str]] = {}
    with console.progress("verify", sum(_file_count(version) for version in found)) as advance:
        for version in found:
            results[version.name] = _verify_and_note(version, store, console, advance)
    bad = [version for version in found if results[version.name]]
    if console.as_json:
        console.json({"versions": results, "intact": not bad})
    for name, problems in results.items():
        console.say(f"  {name}  {'intact' if not problems else ''}".rstrip())
        for problem in problems[:20]:
            console.say(f"    {problem}", "red")
        if len(problems) > 20:
            console.say(f"    … and {len(problems) - 20:,} more", "red")
    if not bad:
        console.say(f"\n{plural(len(results), 'version')} intact")
        return 0
    many = len(bad) != 1
    console.say(f"\n{len(bad)} of {plural(len(results), 'version')} {'are' if many else 'is'} not what was published.", "red")
    damaged = [version for version in bad if store.damage(version)]
    if len(damaged) < len(bad):
        console.say("Delete the files that are no part of a version.")
    if damaged:
        _say_remedy(damaged, everything=not options.version, console=console)
    return 5


def _file_count(version: Version) -> int:
    return 0 if version.fault else int(version.manifest["files"]["count"])


def _verify_and_note(version: Version, store: Store, console: Console, advance: Advance) -> list[str]:
    try:
        problems = version.verify(advance)
    except ArtifactError as error:  # of a newer release: nothing can be said about it
        return [error.message]
    try:
        store.note_damage(version, problems)
    except OSError as error:
        console.warn(
            f"{version.name}: what is wrong cannot be noted in the workspace ({error.strerror}), so runs go on using it."
        )
    return problems


def _say_remedy(damaged: Sequence[Version], everything: bool, console: Console) -> None:
    if not everything:
        console.say("Versions share files: `python -m pipeline verify` looks at all of them.")
    run = maker(damaged[-1].stage)
    delete = "python -m pipeline gc --damaged"
    console.say("Damaged versions count as not there. Put their files back and verify again, or make them anew:")
    console.say(f"  {run.ljust(len(delete))}   makes what the params need")
    console.say(f"  {delete.ljust(len(run))}   deletes what is damaged")


def gc(options: Options, console: Console) -> int:
    """List what nothing needs, or with `--damaged` what is damaged, and delete it when that is wished."""
    project = Project.open(options, console)
    project.store.require_free()  # a run may be about to need what is unneeded now
    if options.damaged:
        _verify_again(project.store, console)
        look = partial(_damaged, project.store)
    else:
        look = partial(_garbage, project, project.runner(options, console))
    doomed, work = look()
    if console.as_json:
        console.json({"versions": [version.name for version in doomed], "unfinished": [path.name for path in work]})
    if not doomed and not work:
        others = "every version is the latest, tagged, or an input of one that is"
        console.say(f"nothing to delete: {'no version without a tag is damaged' if options.damaged else others}")
        return 0
    rows = [_doomed_row(version) for version in doomed]
    rows += [(f".tmp/{path.name}", size(_bytes_below(path)), "unfinished work") for path in work]
    console.table(("damaged" if options.damaged else "unneeded", "size", "holds"), rows)
    again = "gc --damaged --yes" if options.damaged else "gc --yes"
    if not options.yes and not (sys.stdin.isatty() and not console.as_json and _agrees(console)):
        console.say(f"nothing was deleted; `{again}` deletes these")
        return 0
    with project.store.lock():
        # Looked at again: a run may have ended, or begun to need something, while the question was asked.
        still_doomed, still_work = look()
        doomed = [version for version in doomed if version in still_doomed]
        work = [path for path in work if path in still_work]
        for version in doomed:
            project.store.delete(version)
        for path in work:
            shutil.rmtree(path)
    folders = f" and {plural(len(work), 'unfinished folder')}" if work else ""
    console.say(f"deleted {plural(len(doomed), 'version')}{folders}")
    return 0


def _garbage(project: Project, executor: Runner) -> tuple[list[Version], list[Path]]:
    """Versions that nothing needs, and work folders of runs that did not finish."""
    plan = executor.plan(list(project.stages), tolerant=True)
    current = {(step.stage, step.version.number) for step in plan.steps if step.version}
    return project.store.unneeded(current), project.store.abandoned_work()


def _damaged(store: Store) -> tuple[list[Version], list[Path]]:
    """Versions of which damage is known, unless a tag keeps them."""
    return [version for version in store.damaged() if not store.tags_of(version)], []


def _verify_again(store: Store, console: Console) -> None:
    """Look once more at the versions of which damage is known: their files may have been put back."""
    for version in store.damaged():
        store.note_damage(version, version.verify())
        tags = store.tags_of(version)
        if tags and store.damage(version):
            away = f"`python -m pipeline tag --remove {version.stage}@{tags[0]}`"
            console.warn(f"{version.name} is damaged, but its tag '{tags[0]}' keeps it; {away} takes that away.")


def _doomed_row(version: Version) -> tuple[str, str, str]:
    if version.fault:
        return version.name, size(_bytes_below(version.path)), version.fault
    return version.name, size(version.manifest["files"]["bytes"]), version.manifest["headline"]


def _bytes_below(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in files.walk(folder)) if folder.is_dir() else 0


def _agrees(console: Console) -> bool:
    try:
        return input("Delete these? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D; the cursor still stands behind the question
        console.say()
        return False
