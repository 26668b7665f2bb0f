"""Label Studio's tasks and their annotations, whichever of its JSON files they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.formats._common import as_size

SIZE = ("original_width", "original_height")


@dataclass(frozen=True)
class Task:
    """One task; `data` is None where the row is no task at all.

    Attributes:
        number: its id, or its position from 1 where it has none.
        data: the columns.
        annotations: what was submitted.
        size: of the image in pixels, where the task itself says; (0, 0) otherwise.
        unread: how many predictions and how many drafts it has.
    """

    number: int
    data: dict[str, Any] | None
    annotations: list[dict[str, Any]]
    size: tuple[int, int]
    unread: tuple[int, int]


def tasks_of(rows: Sequence[Any]) -> Iterator[Task]:
    for position, row in enumerate(_as_full(rows), 1):
        number, data, meta = row.get("id"), row.get("data"), row.get("meta")
        said = meta if isinstance(meta, dict) else {}
        submitted = as_list(row.get("annotations", row.get("completions")))  # the second until version 1.0
        yield Task(
            number=number if type(number) is int and 0 <= number < 2**32 else position,
            data=data if isinstance(data, dict) else None,
            annotations=[annotation for annotation in submitted if isinstance(annotation, dict)],
            size=(as_size(said.get(SIZE[0])), as_size(said.get(SIZE[1]))),
            unread=(len(as_list(row.get("predictions"))), len(as_list(row.get("drafts")))),
        )


def _as_full(rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Rows may be tasks, annotations that contain their task (as a target storage gets them), or JSON_MIN: one an annotation."""
    minimal: dict[object, dict[str, Any]] = {}
    for row in rows:
        if not isinstance(row, dict):
            yield {}
        elif isinstance(row.get("task"), dict):
            yield {**row["task"], "annotations": [row]}
        elif isinstance(row.get("data"), dict) or "annotation_id" not in row:
            yield row
        else:
            key = row.get("id") if isinstance(row.get("id"), (int, str)) else id(row)
            task = minimal.setdefault(key, {"id": row.get("id"), "data": row, "annotations": []})
            annotation = _of_minimal(row)
            if annotation["id"] is not None or annotation["result"]:  # else a task that nobody has seen
                task["annotations"].append(annotation)
    yield from minimal.values()


def _of_minimal(row: dict[str, Any]) -> dict[str, Any]:
    """An annotation from a row of JSON_MIN, in which every tag is a column with a list of regions."""
    results = [
        {**{key: region.get(key) for key in ("id", "item_index", *SIZE)}, "from_name": column, "value": region}
        for column, regions in row.items()
        for region in as_list(regions)
        if isinstance(region, dict)
    ]
    return {**row, "id": row["annotation_id"], "completed_by": row.get("annotator"), "result": results}


def finished(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that were not cancelled (skipped)."""
    return [annotation for annotation in annotations if not (annotation.get("was_cancelled") or annotation.get("skipped"))]


def choose(annotations: Sequence[dict[str, Any]], person: int | str | None) -> dict[str, Any] | None:
    """The one that counts: the ground truth, else the one changed last; of one person's only, if asked for."""
    usable = [annotation for annotation in annotations if person is None or _is_by(annotation, str(person))]
    ranked = enumerate(usable)
    return max(ranked, key=lambda item: (item[1].get("ground_truth") is True, _changed_at(item[1]), item[0]), default=(0, None))[
        1
    ]


def _changed_at(annotation: dict[str, Any]) -> str:
    return as_text(annotation.get("updated_at")) or as_text(annotation.get("created_at"))


def _is_by(annotation: dict[str, Any], person: str) -> bool:
    said = annotation.get("completed_by")
    return person in [as_text(value) for value in ((said.get("id"), said.get("email")) if isinstance(said, dict) else (said,))]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    return str(value) if isinstance(value, (str, int)) else ""
