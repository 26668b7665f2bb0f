"""CVAT's XML for video, for the tests: of a task made of images, whose frames are the images in the order of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import quoteattr

from tests.label_writers import Box
from tests.label_writers.cvat import meta
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    """One track a box, which ends in the next frame: so CVAT exports what is no track."""
    last = len(labels) - 1
    tracks: list[str] = []
    for frame, path in enumerate(sorted(labels)):
        for name, x1, y1, x2, y2 in labels[path]:
            shapes = "".join(
                f'<box frame="{number}" keyframe="1" outside="{number - frame}" occluded="0" '
                f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0">\n</box>\n'
                for number in (frame, frame + 1)
                if number <= last
            )
            tracks.append(f'<track id="{len(tracks)}" label={quoteattr(name)} source="manual">\n{shapes}</track>\n')
    task = f"<size>{len(labels)}</size><mode>annotation</mode><start_frame>0</start_frame><stop_frame>{last}</stop_frame>"
    document = f"<annotations>\n{meta(names, task)}{''.join(tracks)}</annotations>\n"
    where.text(f"{folder}tracks.xml", '<?xml version="1.0" encoding="utf-8"?>\n' + document)
