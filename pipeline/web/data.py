"""The part of the page about the data: origin, samples, split, classes, leakage, and what was dropped or repaired on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.dataset import EDGES, SPLITS, Dataset
from pipeline.metrics.coco import LARGE_PX2, SMALL_PX2
from pipeline.web import leakage, pictures
from pipeline.web.artifacts import Artifact, as_dict, dig, number
from pipeline.web.pictures import Box, Photo
from pipeline.web.text import plural

JSON = dict[str, Any]

SAMPLES = 8
SHEET = "contact_sheet.jpg"
FRAMES = "frames.jpg"
FRAMES_ALT = "Photos turned by EXIF, each with its boxes as if drawn upright, and as if drawn on the stored pixels"
DATA_STAGES = ("collect", "annotate", "preprocess", "split", "augment")
ACTIONS = ("dropped", "clipped", "fixed", "converted", "kept")
EXAMPLES = 3


def part(artifacts: Mapping[str, Artifact]) -> JSON:
    """Everything the templates of this part show; None for what the artifacts do not tell."""
    split = artifacts["split"].dataset
    return {
        "about": _about(artifacts["collect"]),
        "format": artifacts["annotate"].summary.get("format"),
        "flow": _flow(artifacts),
        "sides": _sides(split) if split else [],
        "classes": _classes(split) if split else [],
        "sizes": _sizes(split) if split else None,
        "samples": _samples(artifacts["split"], split) if split else [],
        "leakage": leakage.part(artifacts) if split else None,
        "frames": pictures.sheet(artifacts["annotate"].folder / FRAMES, FRAMES_ALT),
        "ledger": ledger(artifacts),
        "augment": _augment(artifacts["augment"]),
    }


def _about(collect: Artifact) -> JSON:
    about = {**as_dict(collect.json("source.json")), **collect.summary}
    homepage = str(about.get("homepage") or "")
    # Anything but a web address (javascript:, file:) stays text.
    return {**about, "link": homepage if homepage.startswith(("https://", "http://")) else ""}


def _flow(artifacts: Mapping[str, Artifact]) -> list[JSON]:
    """Images and boxes after each stage, and how many it dropped."""
    rows = []
    for stage in DATA_STAGES:
        summary = artifacts[stage].summary
        counts = as_dict(summary.get("ledger"))
        dropped = {
            item: sum(n for reason, n in counts.items() if reason.startswith(f"{item} dropped")) for item in ("image", "box")
        }
        rows.append({"stage": stage, "images": summary.get("images"), "boxes": summary.get("boxes"), "dropped": dropped})
    return rows


def _sides(dataset: Dataset) -> list[JSON]:
    rows = []
    for side in SPLITS:
        part_of = dataset.of_split(side)
        number = len(part_of.images)
        if number:
            rows.append(
                {
                    "name": side,
                    "images": number,
                    "share": number / len(dataset.images),
                    "boxes": len(part_of.boxes),
                    "background": part_of.background(),
                    "groups": part_of.images["group_id"].nunique(),
                }
            )
    return rows


def _classes(dataset: Dataset) -> list[JSON]:
    """Boxes of each class on each side; `bar` is its share of the side's boxes, in percent of the largest such share.

    Shares, not counts, so that a class that is spread evenly has bars of one length.
    """
    side = dataset.images["split"].to_numpy()[dataset.boxes["image"].to_numpy()]
    class_id = dataset.boxes["class_id"].to_numpy()
    classes = len(dataset.class_names)
    counts = {
        name: np.bincount(class_id[side == name], minlength=classes) for name in SPLITS if (dataset.images["split"] == name).any()
    }
    shares = {name: count / max(1, count.sum()) for name, count in counts.items()}
    longest = max((float(share.max()) for share in shares.values()), default=0) or 1.0
    total = np.bincount(class_id, minlength=classes)
    return [
        {
            "name": name,
            "boxes": int(total[k]),
            "sides": [
                {"name": s, "boxes": int(counts[s][k]), "bar": round(100 * float(shares[s][k]) / longest, 1)} for s in counts
            ],
        }
        for k, name in enumerate(dataset.class_names)
    ]


def _sizes(dataset: Dataset) -> JSON | None:
    """Median image size, boxes per image, and the shares of COCO's box sizes."""
    if not len(dataset.boxes):
        return None
    edges = dataset.boxes[EDGES].to_numpy()
    area = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    width, height = dataset.images["width"], dataset.images["height"]
    return {
        "width": int(width.median()),
        "height": int(height.median()),
        "one_size": bool(width.nunique() == 1 and height.nunique() == 1),
        "per_image": len(dataset.boxes) / len(dataset.images),
        "small": float((area < SMALL_PX2).mean()),
        "medium": float(((area >= SMALL_PX2) & (area < LARGE_PX2)).mean()),
        "large": float((area >= LARGE_PX2).mean()),
    }


def _samples(split: Artifact, dataset: Dataset) -> list[Photo]:
    """Labelled photos drawn evenly from the groups, so that one long video does not fill the row."""
    labelled = np.unique(dataset.boxes["image"].to_numpy())
    groups = dataset.images["group_id"].iloc[labelled]
    first_of_group = labelled[~groups.duplicated().to_numpy()]
    candidates = first_of_group if len(first_of_group) >= SAMPLES else labelled
    chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, min(SAMPLES, len(candidates))).round().astype(int))]
    found = [_sample(split, dataset, int(row)) for row in chosen]
    return [photo for photo in found if photo]


def _sample(split: Artifact, dataset: Dataset, row: int) -> Photo | None:
    path, side = dataset.images["path"].iloc[row], dataset.images["split"].iloc[row]
    edges, class_ids = dataset.edges_of(row)
    names = [dataset.class_names[k] for k in class_ids]
    boxes = [Box(tuple(e), "label", int(k), name) for e, k, name in zip(edges.tolist(), class_ids, names, strict=True)]
    counted = ", ".join(f"{n} × {name}" for name, n in Counter(names).most_common(5))
    alt = f"{path} with {plural(len(boxes), 'labelled box', 'labelled boxes')}: {counted}"
    limit = pictures.limit_for(SAMPLES + 16)
    return pictures.photo(split.folder / "images" / path, boxes, limit, alt, caption=path, badge=side)


def ledger(artifacts: Mapping[str, Artifact]) -> list[JSON]:
    """What each stage did with single items: counts by action and reason, with a few examples; drops first."""
    rows: list[JSON] = []
    for stage in DATA_STAGES:
        found: dict[tuple[str, str, str], JSON] = {}
        for entry in artifacts[stage].lines("ledger.jsonl"):
            key = (str(entry.get("action", "")), str(entry.get("item", "")), str(entry.get("reason", "")))
            row = found.setdefault(
                key, {"stage": stage, "action": key[0], "item": key[1], "reason": key[2], "count": 0, "examples": []}
            )
            row["count"] += 1
            if len(row["examples"]) < EXAMPLES:
                row["examples"].append({"where": _where(entry), "detail": str(entry.get("detail") or "")})
        rows += found.values()
    order = {action: number for number, action in enumerate(ACTIONS)}
    return sorted(rows, key=lambda row: (order.get(row["action"], len(order)), -row["count"], row["stage"], row["reason"]))


def _where(entry: JSON) -> str:
    place = str(entry.get("file") or entry.get("path") or "")
    return f"{place}:{entry['line']}" if entry.get("line") else place


def _augment(augment: Artifact) -> JSON:
    alt = "Contact sheet: training images, each beside its augmented copies, with their boxes"
    applied = as_dict(augment.summary.get("transforms_applied"))
    copies = augment.summary.get("copies") or 0
    return {
        "sheet": pictures.sheet(augment.folder / SHEET, alt),
        "copies": copies,
        "per_image": dig(augment.manifest, "recipe.params.copies"),
        "unchanged": augment.summary.get("copies_unchanged"),
        "applied": [{"name": name, "share": (number(n) or 0) / copies} for name, n in applied.items() if copies],
    }
