"""Versioned folders: `<workspace>/<datasets|runs>/<stage>/v<N>/`, published whole or not at all.

A stage works in `<workspace>/<root>/.tmp/<stage>-<key>/`. Publishing hashes what it left, writes `checksums.b3` and
`manifest.json`, and renames the folder to the next `v<N>`. A killed run leaves its work folder, which the same recipe takes up
again; nothing under a `v<N>` name is ever unfinished. Published folders are read-only by convention, and `verify` checks them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import files, fingerprint
from pipeline.errors import ArtifactError, UsageError, did_you_mean

JSON = dict[str, Any]

MANIFEST = "manifest.json"
CHECKSUMS = "checksums.b3"
SCHEMA = 1

_VERSION_NAME = re.compile(r"v([1-9][0-9]*)")


@dataclass(frozen=True)
class Version:
    """One published folder."""

    stage: str
    number: int
    path: Path

    @property
    def name(self) -> str:
        return f"{self.stage}@v{self.number}"

    @cached_property
    def manifest(self) -> JSON:
        """The manifest.

        Raises:
            ArtifactError: it is missing, damaged, or written by a newer release.
        """
        path = self.path / MANIFEST
        try:
            manifest: JSON = json.loads(path.read_text(encoding="utf-8"))
            schema = manifest["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}", f"Delete {self.path} and run the stage again.") from error
        if schema != SCHEMA:
            raise ArtifactError(f"{path} has schema {schema}, this release reads {SCHEMA}.", "Use the release that wrote it.")
        return manifest

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    def checksums(self) -> dict[str, str]:
        """Relative path → BLAKE3 of every file as it was published."""
        return parse_checksums_file(self.path / CHECKSUMS)


def parse_checksums_file(path: Path) -> dict[str, str]:
    return fingerprint.parse_checksums(path.read_text(encoding="utf-8"))


class Store:
    """The versions of one workspace.

    Args:
        workspace: the folder that holds (or will hold) `datasets/` and `runs/`.
        roots: stage name → "datasets" or "runs".
    """

    def __init__(self, workspace: Path, roots: Mapping[str, str]) -> None:
        self.workspace = workspace
        self._roots = dict(roots)
        self._known: dict[Path, Version] = {}  # so that each manifest is read once

    @property
    def cache(self) -> Path:
        return self.workspace / ".cache"

    def folder(self, stage: str) -> Path:
        if stage not in self._roots:
            raise UsageError(f"Unknown stage '{stage}'.", did_you_mean(stage, self._roots))
        return self.workspace / self._roots[stage] / stage

    def versions(self, stage: str) -> list[Version]:
        """All published versions, oldest first."""
        folder = self.folder(stage)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        numbers = sorted(int(match[1]) for match in map(_VERSION_NAME.fullmatch, names) if match)
        paths = {number: folder / f"v{number}" for number in numbers}
        return [self._known.setdefault(path, Version(stage, number, path)) for number, path in paths.items()]

    def latest(self, stage: str) -> Version | None:
        versions = self.versions(stage)
        return versions[-1] if versions else None

    def find(self, stage: str, key: str) -> Version | None:
        """The newest version made by this very recipe."""
        return next((version for version in reversed(self.versions(stage)) if version.key == key), None)

    def next_number(self, stage: str) -> int:
        """Numbers are never given twice, also when the newest version was deleted: records elsewhere may name it."""
        highest = max((version.number for version in self.versions(stage)), default=0)
        return 1 + max(highest, int(self._read(stage, "highest.json").get("number", 0)))

    def resolve(self, reference: str) -> Version:
        """A version by `STAGE` (its latest), `STAGE@vN`, `STAGE@latest` or `STAGE@TAG`.

        Raises:
            UsageError: no such stage, version or tag.
        """
        stage, _, label = reference.partition("@")
        versions = {f"v{version.number}": version for version in self.versions(stage)}
        if not versions:
            raise UsageError(f"{stage} has no version yet.", f"Run `python -m pipeline run ..{stage}` first.")
        if label in ("", "latest"):
            return list(versions.values())[-1]
        label = self.tags(stage).get(label, label)
        if label not in versions:
            known = [*versions, *self.tags(stage)]
            raise UsageError(f"{stage} has no version or tag '{label}'.", did_you_mean(label, known))
        return versions[label]

    def tags(self, stage: str) -> dict[str, str]:
        """Tag → version name ("v3")."""
        return dict(self._read(stage, "tags.json"))

    def tag(self, version: Version, name: str) -> None:
        """Give a version a name that `gc` respects; the name moves when another version had it."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", name) or name == "latest" or _VERSION_NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' cannot be a tag.", "A letter, then letters, digits, '.', '_' or '-'; not 'latest' or 'v3'."
            )
        self._write(version.stage, "tags.json", {**self.tags(version.stage), name: f"v{version.number}"})

    def _read(self, stage: str, name: str) -> JSON:
        path = self.folder(stage) / name
        try:
            content: JSON = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ArtifactError(f"{path} is damaged: {error}", "Mend it or delete it.") from error
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
            "digest": fingerprint.tree_digest(hashes),
            **manifest,
            "files": {"count": len(hashes), "bytes": size, "checksums": CHECKSUMS},
        }
        files.write_text(work / CHECKSUMS, text)
        files.write_text(work / MANIFEST, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        target = self.folder(stage) / f"v{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(stage, "highest.json", {"number": number})
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

    # ---------------------------------------------------------------- verify and delete

    def verify(self, version: Version, advance: Callable[[int], object] | None = None) -> list[str]:
        """Hash every file again; the differences to what was published, as sentences. Empty: the version is intact."""
        expected = version.checksums() if (version.path / CHECKSUMS).exists() else None
        if expected is None:
            return [f"{CHECKSUMS} is missing"]
        problems = []
        if fingerprint.tree_digest(expected) != version.digest:
            problems.append(f"{CHECKSUMS} does not match the digest in {MANIFEST}")
        present = {Path(entry.path).relative_to(version.path).as_posix() for entry in files.walk(version.path)}
        problems += [f"missing: {path}" for path in sorted(expected.keys() - present)]
        problems += [f"not part of it: {path}" for path in sorted(present - expected.keys() - {MANIFEST, CHECKSUMS})]
        common = sorted(expected.keys() & present)
        actual = fingerprint.of_files((version.path / path for path in common), advance)
        problems += [f"changed: {path}" for path, digest in zip(common, actual, strict=True) if digest != expected[path]]
        return problems

    def unneeded(self, current: set[tuple[str, int]]) -> list[Version]:
        """Versions that nothing needs: not `current` (stage, number), not the latest, not tagged, and no input of one that is."""
        every = {(version.stage, version.number): version for stage in self._roots for version in self.versions(stage)}
        pending = [key for key in current if key in every]
        for stage in self._roots:
            latest = self.latest(stage)
            pending += [(stage, latest.number)] if latest else []
            pending += [(stage, int(name[1:])) for name in self.tags(stage).values()]
        needed: set[tuple[str, int]] = set()
        while pending:
            key = pending.pop()
            if key in needed or key not in every:
                continue
            needed.add(key)
            inputs = every[key].manifest["recipe"]["inputs"]
            pending += [(stage, entry["version"]) for stage, entry in inputs.items()]
        return [version for key, version in sorted(every.items()) if key not in needed]

    def delete(self, version: Version) -> None:
        """Remove a version: first out of sight by a rename, so that a kill leaves no half of it under its name."""
        doomed = self.folder(version.stage).parent / ".tmp" / f"deleted-{version.stage}-v{version.number}-{os.getpid()}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        version.path.rename(doomed)
        shutil.rmtree(doomed)

    # ---------------------------------------------------------------- one writer at a time

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for writing; the system releases it when the process dies, however it dies.

        Raises:
            ArtifactError: another process holds it; says which.
        """
        from filelock import FileLock, Timeout

        self.cache.mkdir(parents=True, exist_ok=True)
        holder = self.cache / "lock-holder.json"
        lock = FileLock(self.cache / "workspace.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ArtifactError(
                f"The workspace {self.workspace} is in use by another run{_holder_text(holder)}.",
                "Wait until it ends, or use another --workspace.",
            ) from None
        try:
            about = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": " ".join(sys.argv[1:])}
            files.write_text(holder, json.dumps(about))
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size


def _known_hashes(versions: list[Version]) -> dict[tuple[int, int, int], str]:
    """The hashes of published files by what a hard link shares with them; not of files that were changed since or are gone."""
    known: dict[tuple[int, int, int], str] = {}
    for version in versions:
        published_ns = (version.path / CHECKSUMS).stat().st_mtime_ns
        for name, digest in version.checksums().items():
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(version.path / name)
                if stat.st_mtime_ns <= published_ns:
                    known[_identity(stat)] = digest
    return known


def _holder_text(holder: Path) -> str:
    try:
        about = json.loads(holder.read_text(encoding="utf-8"))
        return f": process {about['pid']}, since {about['since']} (`{about['command']}`)"
    except (OSError, ValueError, KeyError):
        return ""
