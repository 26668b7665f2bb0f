"""What was kept of a video before, so that one more video in a folder is one video's work.

A note in the cache says, for the content of a video and the options, which frames came of it and their hashes. The frames
themselves are linked from the version before, or lie in `out` since a run that was killed; where one of them is missing the
video is read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import files
from pipeline.fingerprint import of_files, of_value
from pipeline.ledger import Entry, Ledger
from pipeline.sources import Origin
from pipeline.sources._video_frames import Frames


@dataclass(frozen=True)
class Memory:
    """Notes on videos.

    Attributes:
        folder: where they lie.
        recipe: hash of all that decides on the frames beside the video: options, decoder and version of this code.
        held: hash → file of the version before; empty when nothing may be taken from there.
        out: where the frames go.
    """

    folder: Path
    recipe: str
    held: Mapping[str, Path]
    out: Path

    def recall(self, empty: Frames, digest: str, ledger: Ledger) -> Frames | None:
        """The frames of a video, brought to `out`; None where not all are there to be had.

        Args:
            empty: says which video it is and where its frames go.
            digest: the video's hash.
        """
        try:
            note = json.loads(self._path(empty, digest).read_text(encoding="utf-8"))
            origins = [Origin(**row) for row in note["origins"]]
            entries = [Entry(**row) for row in note["entries"]]
            frames = replace(empty, count=note["count"], kept=set(note["kept"]), origins=origins)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        missing = [origin for origin in origins if not (self.out / origin.path).exists()]
        if not all(origin.hash in self.held and self.held[origin.hash].exists() for origin in missing):
            return None
        for origin in missing:
            files.link(self.held[origin.hash], self.out / origin.path)
        ledger.entries += entries
        return frames

    def note(self, frames: Frames, digest: str, entries: list[Entry]) -> None:
        """Write down what came of a video; hashes of frames that a killed run had written are made up for."""
        unknown = [number for number, origin in enumerate(frames.origins) if not origin.hash]
        hashes = of_files(self.out / frames.origins[number].path for number in unknown)
        for number, known in zip(unknown, hashes, strict=True):
            frames.origins[number] = replace(frames.origins[number], hash=known)
        note = {
            "count": frames.count,
            "kept": sorted(frames.kept),
            "origins": [vars(origin) for origin in frames.origins],
            "entries": [vars(entry) for entry in entries],
        }
        files.write_text(self._path(frames, digest), json.dumps(note))

    def _path(self, frames: Frames, digest: str) -> Path:
        return self.folder / f"{of_value([self.recipe, frames.video, frames.folder, digest])[:32]}.json"
