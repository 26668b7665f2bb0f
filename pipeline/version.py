"""One published folder: its manifest, the list of its files, and whether it is still what was published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import files, fingerprint
from pipeline.errors import ArtifactError

JSON = dict[str, Any]

MANIFEST = "manifest.json"
CHECKSUMS = "checksums.b3"
SCHEMA = 1

REMEDY = "`python -m pipeline verify` says what is wrong, `python -m pipeline gc --damaged` deletes it."

ADDED = "not part of it: "
"""How `verify` speaks of a file too many: a folder's thumbnails, say. The version itself is whole."""

# What a manifest must hold, besides `schema`, for its version to be found and reused.
TIMES = "times.jsonl"
"""A file of a version that says when the others came. It is hashed and verified as they are, but the same files at another time
are the same content."""

_KINDS: dict[str, Any] = {"stage": str, "version": int, "digest": str, "key": str, "recipe": dict}


@dataclass(frozen=True)
class Version:
    """One published folder."""

    stage: str
    number: int
    path: Path

    @property
    def label(self) -> str:
        return f"v{self.number}"

    @property
    def name(self) -> str:
        return f"{self.stage}@{self.label}"

    @cached_property
    def _content(self) -> JSON | str:
        return _read_manifest(self.path / MANIFEST)

    @property
    def fault(self) -> str:
        """Why the manifest cannot be read; "" where it can. One that a newer release wrote is no fault."""
        return self._content if isinstance(self._content, str) else ""

    @property
    def manifest(self) -> JSON:
        """The manifest.

        Raises:
            ArtifactError: it is missing, damaged, or written by a newer release.
        """
        if isinstance(self._content, str):
            raise ArtifactError(f"{self.name} is damaged: {self._content}.", REMEDY)
        schema = self._content["schema"]
        if schema != SCHEMA:
            raise ArtifactError(
                f"{self.name} has schema {schema}, this release reads {SCHEMA}.", "Use the release that wrote it."
            )
        return self._content

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    def checksums(self) -> dict[str, str]:
        """Relative path → BLAKE3 of every file as it was published.

        Raises:
            ArtifactError: the list is missing or damaged.
        """
        try:
            return fingerprint.parse_checksums((self.path / CHECKSUMS).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ArtifactError(f"{self.name} is damaged: {CHECKSUMS} is missing.", REMEDY) from error
        except ValueError as error:
            raise ArtifactError(f"{self.name} is damaged: {CHECKSUMS} is no list of hashes.", REMEDY) from error

    def verify(self, advance: Callable[[int], object] | None = None) -> list[str]:
        """Hash every file again; the differences to what was published, as sentences. Empty: the version is intact."""
        if self.fault:
            return [self.fault]
        try:
            expected = self.checksums()
        except ArtifactError as error:
            return [error.message.partition(": ")[2].rstrip(".")]
        problems = []
        if content_digest(expected) != self.digest:
            problems.append(f"{CHECKSUMS} does not match the digest in {MANIFEST}")
        present = {path for path, _ in files.walk_relative(self.path)}
        problems += [f"missing: {path}" for path in sorted(expected.keys() - present)]
        problems += [f"{ADDED}{path}" for path in sorted(present - expected.keys() - {MANIFEST, CHECKSUMS})]
        common = sorted(expected.keys() & present)
        actual = fingerprint.of_readable_files((self.path / path for path in common), advance)
        problems += [
            f"{'changed' if digest else 'cannot be read'}: {path}"
            for path, digest in zip(common, actual, strict=True)
            if digest != expected[path]
        ]
        return problems


def _read_manifest(path: Path) -> JSON | str:
    """What a manifest says, or why that cannot be told."""
    try:
        manifest: JSON = json.loads(path.read_text(encoding="utf-8"))
        newer = manifest["schema"] > SCHEMA
        whole = all(isinstance(manifest.get(key), kind) for key, kind in _KINDS.items())
        whole = whole and isinstance(manifest["recipe"]["params"], dict)
        whole = whole and all(entry.keys() >= {"version", "digest"} for entry in manifest["recipe"]["inputs"].values())
    except PermissionError:
        raise  # nothing is known about a file that may not be read
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"{MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        return f"{MANIFEST} is no JSON"
    except (KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is not what a run writes"
    return manifest if newer or whole else f"{MANIFEST} is not what a run writes"


def content_digest(hashes: Mapping[str, str]) -> str:
    """The digest of a version, by the hashes of its files."""
    return fingerprint.tree_digest({path: digest for path, digest in hashes.items() if path != TIMES})
