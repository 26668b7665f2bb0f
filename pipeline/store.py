"""Versioned folders: `<workspace>/<datasets|runs>/<stage>/v<N>/`, published whole or not at all.

A stage works in `<workspace>/<root>/.tmp/<stage>-<key>/`. Publishing hashes what it left, writes `checksums.b3` and
`manifest.json`, and renames the folder to the next `v<N>`. A killed run leaves its work folder, which the same recipe takes up
again; nothing under a `v<N>` name is ever unfinished. Published folders are read-only by convention, and `verify` checks them.

Disks fail and people edit. A version whose manifest cannot be read, or that `verify` found changed (it leaves a note beside the
versions), is damaged: it keeps its number and its folder, but counts as not there, so that the next run makes it anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline import files, fingerprint, locking
from pipeline.errors import ArtifactError, UsageError, did_you_mean
from pipeline.version import ADDED, CHECKSUMS, MANIFEST, REMEDY, SCHEMA, Version, content_digest

__all__ = ["CHECKSUMS", "MANIFEST", "SCHEMA", "Store", "Version"]

JSON = dict[str, Any]

BENCHMARK = "benchmark"

_VERSION_NAME = re.compile(r"v([1-9][0-9]*)")
_TAGS, _HIGHEST, _DAMAGED = "tags.json", "highest.json", "damaged.json"
_NOTED_PROBLEMS = 20


class Store:
    """The versions of one workspace.

    Args:
        workspace: the folder that holds (or will hold) `datasets/` and `runs/`.
        roots: stage name → "datasets" or "runs"; `benchmark`, whose versions are records and no stage's, is added.
        warn: is told once of each damaged version that is passed over.
    """

    def __init__(self, workspace: Path, roots: Mapping[str, str], warn: Callable[[str], object] | None = None) -> None:
        self.workspace = workspace
        self._roots = {**roots, BENCHMARK: "runs"}
        self._warn = warn or (lambda text: None)
        self._known: dict[Path, Version] = {}  # so that each manifest is read once
        self._told: set[Version] = set()

    @property
    def names(self) -> list[str]:
        """Of everything that has versions: the stages, and `benchmark`."""
        return list(self._roots)

    @property
    def cache(self) -> Path:
        return self.workspace / ".cache"

    def folder(self, stage: str) -> Path:
        if stage not in self._roots:
            raise UsageError(f"Unknown stage '{stage}'.", did_you_mean(stage, self._roots))
        return self.workspace / self._roots[stage] / stage

    def every(self, stage: str) -> list[Version]:
        """All published versions, damaged ones too, oldest first."""
        folder = self.folder(stage)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise ArtifactError(f"{folder} cannot be a folder: a file is in its place.", "Choose another --workspace.") from None
        numbers = sorted(int(match[1]) for match in map(_VERSION_NAME.fullmatch, names) if match)
        paths = {number: folder / f"v{number}" for number in numbers}
        return [self._known.setdefault(path, Version(stage, number, path)) for number, path in paths.items()]

    def readable(self, stage: str) -> list[Version]:
        """The versions that at least say how they were made, oldest first."""
        return [version for version in self.every(stage) if not version.fault]

    def newest_first(self, stage: str) -> Iterator[Version]:
        """The versions that are not damaged as far as is known; a manifest is read when its turn comes."""
        every = self.every(stage)
        noted = self._noted(stage)
        for version in reversed(every):
            problems = [version.fault] if version.fault else noted.get(version.label, [])
            if not problems:
                yield version
            elif version not in self._told:
                self._told.add(version)
                what = f"is damaged and counts as not there ({_in_short(problems)})"
                self._warn(f"{version.name} {what}; `python -m pipeline gc --damaged` deletes it.")

    def versions(self, stage: str) -> list[Version]:
        """The versions that are not damaged as far as is known, oldest first."""
        return list(self.newest_first(stage))[::-1]

    def latest(self, stage: str) -> Version | None:
        return next(self.newest_first(stage), None)

    def find(self, stage: str, key: str) -> Version | None:
        """The newest version made by this very recipe."""
        return next((version for version in self.newest_first(stage) if version.key == key), None)

    def next_number(self, stage: str) -> int:
        """Numbers are never given twice, also when the newest version was deleted: records elsewhere may name it."""
        highest = max((version.number for version in self.every(stage)), default=0)
        given = self._read(stage, _HIGHEST, "Delete it: numbers then go on from the highest that is there.").get("number", 0)
        return 1 + max(highest, given if isinstance(given, int) else 0)

    def resolve(self, reference: str, damaged: bool = False) -> Version:
        """A version by `STAGE` (its latest), `STAGE@vN`, `STAGE@latest` or `STAGE@TAG`.

        Args:
            damaged: whether one that is damaged will do.

        Raises:
            UsageError: no such stage, version or tag. ArtifactError: the version is damaged.
        """
        stage, _, label = reference.partition("@")
        versions = {version.label: version for version in self.every(stage)}
        if not versions:
            raise UsageError(f"{stage} has no version yet.", f"Run `{maker(stage)}` first.")
        if label in ("", "latest"):
            latest = self.latest(stage)
            if latest is None:
                raise ArtifactError(f"Every version of {stage} is damaged.", f"`{maker(stage)}` makes one anew.")
            return latest
        label = self.tags(stage).get(label, label)
        if label not in versions:
            known = [*versions, *self.tags(stage)]
            raise UsageError(f"{stage} has no version or tag '{label}'.", did_you_mean(label, known))
        if not damaged and (problems := self.damage(versions[label])):
            raise ArtifactError(f"{versions[label].name} is damaged: {_in_short(problems)}.", REMEDY)
        return versions[label]

    # ---------------------------------------------------------------- notes beside the versions

    def tags(self, stage: str) -> dict[str, str]:
        """Tag → version label ("v3")."""
        tags = self._read(stage, _TAGS, "Mend it or delete it: it holds the tags of this stage.")
        return {name: label for name, label in tags.items() if isinstance(label, str) and _VERSION_NAME.fullmatch(label)}

    def tag(self, version: Version, name: str) -> str:
        """Give a version a name that `gc` respects; the label of the version that had it before, "" for none."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", name) or name == "latest" or _VERSION_NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' cannot be a tag.", "A letter, then letters, digits, '.', '_' or '-'; not 'latest' or 'v3'."
            )
        tags = self.tags(version.stage)
        self._write(version.stage, _TAGS, {**tags, name: version.label})
        return tags.get(name, "")

    def tags_of(self, version: Version) -> list[str]:
        return sorted(name for name, label in self.tags(version.stage).items() if label == version.label)

    def untag(self, stage: str, name: str) -> str:
        """Take a name away; the label of the version that had it."""
        tags = self.tags(stage)
        if name not in tags:
            raise UsageError(f"{stage} has no tag '{name}'.", did_you_mean(name, tags) if tags else "It has none at all.")
        label = tags.pop(name)
        self._write(stage, _TAGS, tags)
        return label

    def damage(self, version: Version) -> list[str]:
        """What is known to be wrong with a version, as sentences; what concerns single images comes last."""
        return [version.fault] if version.fault else self._noted(version.stage).get(version.label, [])

    def has_its_tables(self, version: Version) -> bool:
        """Whether what a version decided can still be read, though some of its images may be damaged."""
        return all(_concerns_an_image(problem) for problem in self.damage(version))

    def note_damage(self, version: Version, problems: list[str]) -> None:
        """Remember what `verify` found, or forget it where it found nothing. A file too many is no damage."""
        noted = self._noted(version.stage)
        damage = (problem for problem in problems if not problem.startswith(ADDED))
        kept = sorted(damage, key=_concerns_an_image)[:_NOTED_PROBLEMS]
        if noted.pop(version.label, []) != kept:
            self._write(version.stage, _DAMAGED, {**noted, version.label: kept} if kept else noted)

    def _noted(self, stage: str) -> dict[str, list[str]]:
        try:
            return {str(label): list(map(str, problems)) for label, problems in self._read(stage, _DAMAGED, "").items()}
        except (ArtifactError, TypeError):
            return {}  # it is made again by the next verify, and the damage itself has not gone away

    def _read(self, stage: str, name: str, remedy: str) -> JSON:
        path = self.folder(stage) / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged: {error}.", remedy) from error
        if not isinstance(content, dict):
            raise ArtifactError(f"{path} is damaged: it holds no mapping.", remedy)
        return content

    def _write(self, stage: str, name: str, content: JSON) -> None:
        files.write_text(self.folder(stage) / name, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    # ---------------------------------------------------------------- work and publish

    def work_folder(self, stage: str, key: str) -> Path:
        """Where a recipe is worked on. The name holds the key, so the same recipe finds what a killed run had finished."""
        folder = self.folder(stage).parent / ".tmp" / f"{stage}-{key[:24]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def abandoned_work(self) -> list[Path]:
        """Work folders of runs that did not finish."""
        roots = {self.folder(stage).parent / ".tmp" for stage in self._roots}
        return sorted(path for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir())

    def publish(
        self,
        stage: str,
        work: Path,
        manifest: Mapping[str, object],
        linked_from: list[Version],
        advance: Callable[[int], object] | None = None,
    ) -> Version:
        """Make the work folder the next version of `stage`.

        Args:
            manifest: everything but `schema`, `version`, `digest` and `files`, which are added here.
            linked_from: versions whose files the work may be hard links of; those are not hashed again.
        """
        hashes = self._hash_work(work, linked_from, advance)
        text = fingerprint.checksums_text(hashes)
        number = self.next_number(stage)
        size = sum((work / path).stat().st_size for path in hashes)
        whole = {
            "schema": SCHEMA,
            "stage": stage,
            "version": number,
            "digest": content_digest(hashes),
            **manifest,
            "files": {"count": len(hashes), "bytes": size, "checksums": CHECKSUMS},
        }
        files.write_text(work / CHECKSUMS, text)
        files.write_text(work / MANIFEST, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        target = self.folder(stage) / f"v{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(stage, _HIGHEST, {"number": number})
        work.rename(target)
        return Version(stage, number, target)

    def _hash_work(self, work: Path, linked_from: list[Version], advance: Callable[[int], object] | None) -> dict[str, str]:
        stats: dict[str, os.stat_result] = {}
        for entry in list(files.walk(work)):
            path = Path(entry.path)
            relative = path.relative_to(work).as_posix()
            if files.is_temporary(entry.name):
                path.unlink()
            elif relative not in (MANIFEST, CHECKSUMS):  # of a run that was killed between writing them and the rename
                stats[relative] = path.stat()
        known = _known_hashes(linked_from) if any(stat.st_nlink > 1 for stat in stats.values()) else {}
        hashes = {path: known[_identity(stat)] for path, stat in stats.items() if _identity(stat) in known}
        unknown = [path for path in stats if path not in hashes]
        hashes |= zip(unknown, fingerprint.of_files((work / path for path in unknown), advance), strict=True)
        return hashes

    # ---------------------------------------------------------------- delete

    def unneeded(self, current: set[tuple[str, int]]) -> list[Version]:
        """Versions that nothing needs: not `current` (stage, number), not the latest, not tagged, and no input of one that is.

        Damaged ones are not among them: somebody may want to put their files back. Nor are records of benchmarks, which are of
        use because there are several.
        """
        every = {(version.stage, version.number): version for stage in self._roots for version in self.readable(stage)}
        whole = {(version.stage, version.number) for stage in self._roots for version in self.versions(stage)}
        pending = [key for key in current if key in every]
        for stage in self._roots:
            latest = self.latest(stage)
            pending += [(stage, latest.number)] if latest else []
            pending += [(stage, int(label[1:])) for label in self.tags(stage).values()]
        needed: set[tuple[str, int]] = set()
        while pending:
            key = pending.pop()
            if key in needed or key not in every:
                continue
            needed.add(key)
            inputs = every[key].manifest["recipe"]["inputs"]
            pending += [(stage, entry["version"]) for stage, entry in inputs.items()]
        return [every[key] for key in sorted(whole - needed) if key[0] != BENCHMARK]

    def damaged(self) -> list[Version]:
        """The versions of which damage is known."""
        return [version for stage in self._roots for version in self.every(stage) if self.damage(version)]

    def delete(self, version: Version) -> None:
        """Remove a version: first out of sight by a rename, so that a kill leaves no half of it under its name."""
        doomed = self.folder(version.stage).parent / ".tmp" / f"deleted-{version.stage}-{version.label}-{os.getpid()}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        self._write(version.stage, _HIGHEST, {"number": self.next_number(version.stage) - 1})
        version.path.rename(doomed)
        self.note_damage(version, [])
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed)
        else:
            doomed.unlink()

    # ---------------------------------------------------------------- one writer at a time

    def lock(self) -> AbstractContextManager[None]:
        """Hold the workspace for writing; raises ArtifactError when another process does."""
        return locking.hold(self.workspace, self.cache)

    def holder(self) -> str:
        """Who holds the workspace, "" when nobody does."""
        return locking.holder(self.cache)

    def require_free(self) -> None:
        """Raises ArtifactError when another process holds the workspace."""
        if who := self.holder():
            raise locking.in_use(self.workspace, who)


def maker(stage: str) -> str:
    """The command that makes versions of a stage."""
    return "python -m pipeline benchmark" if stage == BENCHMARK else f"python -m pipeline run ..{stage}"


def _in_short(problems: Sequence[str]) -> str:
    return problems[0] + (", among others" if len(problems) > 1 else "")


def _concerns_an_image(problem: str) -> bool:
    return ": images/" in problem


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size


def _known_hashes(versions: list[Version]) -> dict[tuple[int, int, int], str]:
    """The hashes of published files by what a hard link shares with them; not of files that were changed since or are gone."""
    known: dict[tuple[int, int, int], str] = {}
    for version in versions:
        try:
            published_ns = (version.path / CHECKSUMS).stat().st_mtime_ns
            hashes = version.checksums()
        except (FileNotFoundError, ArtifactError):
            continue  # damaged, and nobody has verified it yet: its files are read like any others
        for name, digest in hashes.items():
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(version.path / name)
                if stat.st_mtime_ns <= published_ns:
                    known[_identity(stat)] = digest
    return known
