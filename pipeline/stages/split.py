"""split: put every image on one side, train, val or test, without leakage.

Images of one group (a video, burst or scene, near-duplicates) never straddle a split. Classes are stratified by boxes. A photo
keeps its side when others are added: sides are taken over from the version before that had the same params. A data card
(`CARD.md`) says what the data set is and what is wrong with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.stage import JSON, Context, Stage, StageParams
from pipeline.wording import listed, plural

FEW_IMAGES = 20
LARGE_GROUP = 0.25
"""A group with a larger share of the images makes the sides lopsided; below `FEW_IMAGES` that is to be expected."""

Criterion = Literal["source", "folder", "duplicates"]


class Fractions(StageParams):
    """How much goes to each side."""

    train: float = Field(default=0.7, gt=0, le=1, description="share of the images; the three add up to 1")
    val: float = Field(default=0.15, gt=0, lt=1, description="chooses the best epoch")
    test: float = Field(
        default=0.15, ge=0, lt=1, description="seen by nobody but evaluate and export; 0: they measure on val, which flatters"
    )

    @field_validator("val", mode="before")
    @classmethod
    def _val_is_needed(cls, value: object) -> object:
        if value == 0:
            raise ValueError("must be more than 0, for training picks its best epoch by val; 0.3 suits a small data set")
        return value

    @model_validator(mode="after")
    def _sum_to_one(self) -> Fractions:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + val + test must be 1, got {total:g}")
        return self


class Params(StageParams):
    fractions: Fractions = Field(default_factory=Fractions)
    given: Literal["keep", "ignore"] = Field(default="keep", description="what to do with a split that the labels bring")
    group_by: list[Criterion] = Field(default=["source", "duplicates"], description="what joins images into a group")
    group_pattern: str = Field(default="", description="regular expression; images whose path matches alike stay together")
    duplicate_distance: int = Field(
        default=6, ge=0, le=16, description="of 64 strong edges, how many may differ in near-duplicates"
    )
    stable: bool = Field(default=True, description="images keep the side they had in the version before")
    seed: int = Field(default=0, ge=0, description="the seed of the whole run, unless given here")

    @field_validator("group_pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import re

        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    from pipeline import ledger as ledgers
    from pipeline import sides as checks
    from pipeline import splitting
    from pipeline.datacard import read_origin, write_card
    from pipeline.dataset import Dataset
    from pipeline.files import link
    from pipeline.health.duplicates import DISTANCE
    from pipeline.ledger import Ledger
    from pipeline.neighbours import look_alikes

    source = inputs["preprocess"]
    dataset = Dataset.load(source)
    ledger = Ledger()
    distance = params.duplicate_distance
    alike = look_alikes(dataset.images["dhash"].tolist(), distance) if "duplicates" in params.group_by else None
    groups = splitting.group_images(dataset, params.group_by, params.group_pattern, distance, alike)
    sides = splitting.divide(dataset, groups, params, context.history if params.stable else None, ledger)
    has_given = params.given == "keep" and bool((dataset.images["split"] != "").any())
    checks.require(dataset, groups, sides, params, has_given=has_given)
    images = dataset.images.assign(split=sides, group_id=dataset.images["path"].to_numpy()[groups])
    result = Dataset(dataset.class_names, images, dataset.boxes)
    with context.progress("link", len(images)) as advance:
        for path in images["path"]:
            link(source / "images" / path, out / "images" / path)
            advance()
    result.save(out)
    ledger.write(out)
    entries = [*ledgers.read(inputs["annotate"]), *ledger.entries]
    write_card(out, result, read_origin(inputs["annotate"]), entries, alike if distance == DISTANCE else None)
    counts = ledger.counts()
    sizes = splitting.group_sizes(groups)
    parts = {side: part for side in ("train", "val", "test") if (part := result.of_split(side).counts())["images"]}
    leaks = checks.shared(groups, sides)
    counted = Counter(sides)
    warnings = (
        *_leaks(counted, leaks),
        *_gaps(counted, checks.without_boxes(dataset, sides), has_given),
        *_moves(counts),
        *_val_from_train(counts),
        *_large_group(len(sides), int(sizes.max()), params),
    )
    for warning in warnings:
        context.warn(warning)
    return {
        **result.counts(),
        "splits": parts,
        "groups": len(sizes),
        "largest_group": int(sizes.max()),
        "leaking_images": sum(number for reason, number in counts.items() if reason.endswith("straddles_given_split")),
        "leaks": leaks,
        "continues": context.history.name if context.history and params.stable else "",
        "ledger": counts,
    }


def _leaks(images: Mapping[str, int], leaks: Mapping[str, int]) -> Iterator[str]:
    """What `leaks`, of `sides.shared`, do to which figures; `images` are those of each side."""
    said = []
    if "val" in leaks:
        said.append(f"val images with others of their group in train: {leaks['val']} of {images['val']}")
        said.append("the best epoch will be chosen too optimistically")
    if "test" in leaks:
        said.append(f"test images with others of their group in train or val: {leaks['test']} of {images['test']}")
        said.append("the test figures will be too good")
    elif said and images["test"]:
        said.append("test is not touched")
    if said:
        yield f"the given split leaks: {'; '.join(said)}. See ledger.jsonl; `split.given: ignore` splits anew."


def _gaps(images: Mapping[str, int], bare: Sequence[str], has_given: bool) -> Iterator[str]:
    """Sides that cannot do what they are for; `bare` have images without boxes only."""
    if unusable := [side for side in bare if side != "test"]:
        yield f"no image in {listed(unusable)} has a box, and train will refuse that. Look at the labels (annotate)."
    elif "test" not in images or "test" in bare:
        what = "has no boxes" if "test" in images else "has no images"
        anew = " `split.given: ignore` splits anew." if has_given else ""
        yield (
            f"test {what}: evaluate and export will measure on val, by which training picks its best epoch, so the figures "
            f"will be too good.{anew}"
        )


def _moves(counts: Mapping[str, int]) -> Iterator[str]:
    """`counts` are the ledger's."""
    if moved := sum(number for reason, number in counts.items() if reason.endswith("filled_empty_side")):
        yield (
            "a side had lost all of its images, or all that have boxes. Moved there from another side: "
            f"{plural(moved, 'image')}, named in ledger.jsonl. `split.stable: false` splits anew, in full proportion."
        )


def _val_from_train(counts: Mapping[str, int]) -> Iterator[str]:
    """`counts` are the ledger's."""
    if taken := counts.get("image converted: val_from_train"):
        yield (
            f"the given split has no val, and train needs one: {plural(taken, 'image')} of its train became val, named in "
            "ledger.jsonl. test is as it was given."
        )


def _large_group(images: int, largest: int, params: Params) -> Iterator[str]:
    if images < FEW_IMAGES or largest <= LARGE_GROUP * images:
        return
    looser = []
    if "duplicates" in params.group_by and params.duplicate_distance:
        looser.append("lower `split.duplicate_distance` (0: only equal looks)")
    if params.group_by:
        looser.append("name fewer criteria in `split.group_by`")
    if params.group_pattern:
        looser.append("take a narrower `split.group_pattern`")
    yield (
        f"one group holds {largest:,} of {images:,} images, and all of a group go to one side. "
        f"If they do not belong together, {listed(looser, 'or')}."
    )


def headline(summary: JSON) -> str:
    parts = summary["splits"]
    counts = [f"{part['images']:,} {side}" for side, part in parts.items()]
    images = "image" if [part["images"] for part in parts.values()] == [1] else "images"
    return f"{', '.join(counts)} {images} in {plural(summary['groups'], 'group')}"


STAGE = Stage(
    inputs=("annotate", "preprocess"),  # annotate: for the data card
    params=Params,
    run=run,
    version=5,
    root="datasets",
    summary="put every image on one side, without leakage",
    headline=headline,
)
