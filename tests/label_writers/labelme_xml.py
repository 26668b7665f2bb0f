"""LabelMe XML files for the tests, in `Annotations/` as the web tool has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

from tests.label_writers import Box
from tests.labelling import Collected

CANNOT_SAY = frozenset({"inverted"})  # corners may come in any order


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    for path, boxes in labels.items():
        place, _, name = path.rpartition("/")
        objects = "".join(_object(number, *box) for number, box in enumerate(boxes))
        where.text(
            f"{folder}Annotations/{path.rpartition('.')[0]}.xml",
            f"<annotation><filename>{escape(name)}</filename><folder>{escape(place)}</folder><source><sourceAnnotation>LabelMe "
            f"Webtool</sourceAnnotation></source>{objects}<imagesize><nrows>50</nrows><ncols>100</ncols></imagesize></annotation>",
        )


def _object(number: int, name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)))
    return (
        f"<object><name>{escape(name)}</name><deleted>0</deleted><verified>0</verified><occluded>no</occluded><attributes/>"
        f"<parts><hasparts/><ispartof/></parts><date>27-Jul-2014 02:58:50</date><id>{number}</id><type>bounding_box</type>"
        f"<polygon><username>anonymous</username>{points}</polygon></object>\n"
    )
