"""What a reader should know before trusting the figures: found in the artifacts, shown at the top of the page.

A problem makes a figure wrong or a file missing; a note says what would make it better or what it does not cover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.web.artifacts import Artifact, as_dict, dig, number
from pipeline.web.text import figure, percent, plural
from pipeline.yolo.options import TrainParams

JSON = dict[str, Any]

FEW_GROUPS = 20
FEW_BOXES = 20
FEW_EPOCHS = 5
NOTABLE_DROP = 0.005


@dataclass(frozen=True)
class Caution:
    level: Literal["problem", "note"]
    text: str
    advice: str = ""
    anchor: str = ""


def find(artifacts: Mapping[str, Artifact], data: JSON, results: JSON, making: JSON) -> list[Caution]:
    """All cautions, problems first; the arguments are the finished parts of the page."""
    found = [
        *_leakage(data),
        *_evaluation(results, data["sides"]),
        *_training(artifacts["train"]),
        *_exports(results),
        *_data(data),
        *_origin(data, making),
    ]
    return sorted(found, key=lambda caution: caution.level != "problem")


def _leakage(data: JSON) -> Iterator[Caution]:
    """One for each side that is not new, and what it spoils: only test's figures are shown, but val chooses the epoch."""
    leakage = data["leakage"]
    if leakage is None:
        return
    spoils = {"test": "The figures of test are too good.", "val": "The best epoch was chosen too optimistically."}
    anew = " `split.given: ignore` splits anew." if leakage["given"] else ""
    for row in leakage["held_out"]:
        if row["leaking"]:
            kin = " or ".join(
                name for name, key in (("others of their group", "shared"), ("near-duplicates", "near")) if row[key]
            )
            text = f"{row['side'].capitalize()} images with {kin} in {row['before']}: {row['leaking']} of {row['images']}."
            yield Caution("problem", text, spoils[row["side"]] + anew, "leakage")
        if row["augmented"]:
            copies = plural(row["augmented"], "training image")
            yield Caution("problem", f"Made from images of {row['side']}: {copies}.", "Run split and augment anew.", "leakage")
    if alike := [row for row in leakage["held_out"] if row["alike"]]:
        counts = ", ".join(f"{row['alike']} of {plural(row['images'], row['side'] + ' image')}" for row in alike)
        text = f"Images that look like some on a side before theirs: {counts}."
        parted = f"`split.duplicate_distance: {leakage['distance']}` parts them."
        yield Caution("note", text, f"{parted} Where they show the same things, figures are too good.", "leakage")


def _evaluation(results: JSON, sides: list[JSON]) -> Iterator[Caution]:
    metrics, split = results["metrics"], results["split"]
    if split != "test":
        text = f"The figures were measured on {split}, by which the best epoch was chosen: they are too good."
        has_test = any(side["name"] == "test" and side["boxes"] for side in sides)
        advice = (
            "Measure on test (`evaluate.split: test`)." if has_test else "Test has no labelled images: collect or label more."
        )
        yield Caution("problem", text, advice, "evaluation")
    if not results["measures"] and metrics.get("images"):
        text = f"There is no mAP: the {plural(metrics['images'], 'image')} of {split} have no boxes."
        yield Caution("problem", text, "Label some.", "evaluation")
    elif not results["measures"]:
        yield Caution("problem", "There are no figures: metrics.json is missing or empty.", "Run evaluate again.", "evaluation")
    groups = number(metrics.get("groups"))
    if groups is not None and groups < FEW_GROUPS:
        measured = f"{plural(metrics.get('images'), f'{split} image')} from {plural(int(groups), 'source')}"
        told = "the intervals hold for more images of these, not for new ones"
        told = told if metrics.get("ci95") else "too little to tell how far the figures would swing"
        yield Caution("note", f"Measured on {measured}: {told}.", "Test on more videos, scenes or places.", "evaluation")
    known = [row for row in results["per_class"] if row["known"]]
    absent = [str(row.get("name")) for row in results["per_class"] if not row["known"]]
    if absent:
        text = f"No box on {split}, hence no figure and no part in the means: {_listed(absent)}."
        yield Caution("note", text, "Label more images of them.", "classes")
    lost = [str(row.get("name")) for row in known if number(row.get("recall")) == 0]
    if lost:
        yield Caution("problem", f"Never found at the recommended threshold: {_listed(lost)}.", "", "classes")
    few = [str(row.get("name")) for row in known if (number(row.get("boxes")) or 0) < FEW_BOXES]
    if few:
        which = "each class" if len(few) == len(known) > 1 else _listed(few)
        text = f"Fewer than {FEW_BOXES} boxes of {which} on {split}: figures of single classes are rough."
        yield Caution("note", text, "", "classes")
    theirs = as_dict(metrics.get("ultralytics"))
    if theirs.get("skipped"):
        yield Caution("note", f"No figures of ultralytics' own: {theirs['skipped']}", "", "evaluation")


def _training(train: Artifact) -> Iterator[Caution]:
    summary, wanted = train.summary, number(train.params.get("epochs"))
    epochs, best = number(summary.get("epochs")), number(summary.get("best_epoch"))
    if epochs and best and best >= epochs and epochs == wanted:
        text = f"The best epoch was the last one ({best:.0f}): training had not levelled off."
        # Twice as many of very few are still very few.
        more = 2 * int(epochs) if epochs >= FEW_EPOCHS else TrainParams.model_fields["epochs"].default
        yield Caution("note", text, f"More epochs will probably do better: `train.epochs={more}`.", "training")
    map50 = number(dig(summary, "val_ultralytics.map50"))
    if map50 is not None and map50 < 0.05:
        text = "The model has hardly learnt anything (mAP50 on val below 0.05)."
        yield Caution("problem", text, "Look at the sample images: do the boxes sit where they should?", "training")


def _exports(results: JSON) -> Iterator[Caution]:
    for row in results["exports"]:
        name = " ".join(str(row[key]) for key in ("format", "precision") if row.get(key))
        if not row["ok"]:
            yield Caution("problem", f"{name} was not made: {row.get('reason') or 'no reason is recorded'}", "", "exports")
        drop = number(row.get("map_drop"))
        if drop is not None and drop > NOTABLE_DROP:
            yield Caution("note", f"{name} loses {figure(drop, 4)} mAP50-95 against PyTorch.", "", "exports")


def _data(data: JSON) -> Iterator[Caution]:
    before = None
    for row in data["flow"]:
        dropped = row["dropped"]["image"]
        if dropped and before:
            text = f"{row['stage']} left out {plural(dropped, 'image')} ({percent(dropped / before)})."
            yield Caution("note", text, "The ledger says which and why.", "ledger")
        before = number(row["images"]) or before
    boxes = sum(row["dropped"]["box"] for row in data["flow"] if row["stage"] != "augment")
    if boxes:
        yield Caution("note", f"{plural(boxes, 'box was', 'boxes were')} dropped.", "The ledger says which and why.", "ledger")


def _origin(data: JSON, making: JSON) -> Iterator[Caution]:
    if str(data["about"].get("license") or "unknown") == "unknown":
        yield Caution("note", "The licence of the images is not known.", "State it in `collect.license`.", "data")
    if any(commit.endswith("+") for commit in making["commits"]):
        text = "Files of the repository were changed but not committed when this was made."
        yield Caution("note", text, "The commit alone does not reproduce it.", "making")


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
