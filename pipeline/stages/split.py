"""split: put every image on one side, train, val or test, without leakage.

Images of one group (a video, burst or scene, near-duplicates) never straddle a split. Classes are stratified by boxes. A photo
keeps its side when others are added: sides are taken over from the version before that had the same params. A data card
(`CARD.md`) says what the data set is and what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.stage import JSON, Context, Stage, StageParams

FEW_IMAGES = 20
LARGE_GROUP = 0.25
"""A group with a larger share of the images makes the sides lopsided; below `FEW_IMAGES` that is to be expected."""

Criterion = Literal["source", "folder", "duplicates"]


class Fractions(StageParams):
    """How much goes to each side."""

    train: float = Field(default=0.7, gt=0, le=1, description="share of the images; the three add up to 1")
    val: float = Field(default=0.15, ge=0, lt=1, description="chooses the best epoch")
    test: float = Field(default=0.15, ge=0, lt=1, description="seen by nobody but evaluate and export")

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
    from pipeline import splitting
    from pipeline.datacard import read_origin, write_card
    from pipeline.dataset import Dataset
    from pipeline.files import link
    from pipeline.ledger import Ledger

    source = inputs["preprocess"]
    dataset = Dataset.load(source)
    ledger = Ledger()
    groups = splitting.group_images(dataset, params.group_by, params.group_pattern, params.duplicate_distance)
    sides = splitting.divide(dataset, groups, params, context.history if params.stable else None, ledger)
    images = dataset.images.assign(split=sides, group_id=dataset.images["path"].to_numpy()[groups])
    result = Dataset(dataset.class_names, images, dataset.boxes)
    with context.progress("link", len(images)) as advance:
        for path in images["path"]:
            link(source / "images" / path, out / "images" / path)
            advance()
    result.save(out)
    ledger.write(out)
    write_card(out, result, read_origin(inputs["annotate"]), [*ledgers.read(inputs["annotate"]), *ledger.entries])
    counts = ledger.counts()
    straddling = sum(number for reason, number in counts.items() if reason.endswith("straddles_given_split"))
    sizes = splitting.group_sizes(groups)
    for warning in _warnings(params, sides, counts, straddling, int(sizes.max())):
        context.warn(warning)
    return {
        **result.counts(),
        "splits": {side: part for side in ("train", "val", "test") if (part := result.of_split(side).counts())["images"]},
        "groups": len(sizes),
        "largest_group": int(sizes.max()),
        "leaking_images": straddling,
        "continues": context.history.name if context.history and params.stable else "",
        "ledger": counts,
    }


def _warnings(params: Params, sides: Sequence[str], counts: Mapping[str, int], straddling: int, largest: int) -> Iterator[str]:
    """What the user should know; `counts` are the ledger's, `largest` is the number of images of the largest group."""
    if straddling:
        yield (
            f"the given split puts {straddling} images on another side than images of the same group or near-duplicates of them: "
            "test figures will be too good. See ledger.jsonl; `split.given: ignore` splits anew."
        )
    if moved := sum(number for reason, number in counts.items() if reason.endswith("filled_empty_side")):
        yield (
            f"a side lost all of its images, so {moved} images that lay on another side before were moved there. "
            "See ledger.jsonl; `split.stable: false` splits anew, in full proportion."
        )
    wanted = [side for side in ("train", "val", "test") if getattr(params.fractions, side) > 0]
    if empty := [side for side in wanted if side not in set(sides)]:
        yield (
            f"the given split has no {' and no '.join(empty)} images, which later stages need. "
            "`split.given: ignore` splits anew; `evaluate.split: val` evaluates on val."
        )
    if len(sides) >= FEW_IMAGES and largest > LARGE_GROUP * len(sides):
        yield (
            f"one group holds {largest:,} of {len(sides):,} images, and all of a group go to one side. "
            "If they do not belong together, "
            "lower `split.duplicate_distance` (0: only equal looks) or name fewer criteria in `split.group_by`."
        )


def headline(summary: JSON) -> str:
    sides = ", ".join(f"{part['images']:,} {side}" for side, part in summary["splits"].items())
    return f"{sides} images in {summary['groups']:,} groups"


STAGE = Stage(
    inputs=("annotate", "preprocess"),  # annotate: for the data card
    params=Params,
    run=run,
    version=3,
    root="datasets",
    summary="put every image on one side, without leakage",
    headline=headline,
)
