"""Bring the records of label files and the image files together: which file each means, and which split it belongs to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from pipeline.labelling.labels import LabelledImage, Labels, split_of_folder
from pipeline.labelling.references import BY_NAME, BY_STEM, EXACT, Match, References
from pipeline.ledger import Ledger
from pipeline.paths import is_image

ROOT_SAMPLE = 200
"""Names of a label file that are looked at to find the folder they start from."""


@dataclass
class Resolved:
    """Where everything belongs.

    Attributes:
        photos: the image files, sorted; relative POSIX paths.
        photo_of: for each record of `Labels.images` the position of its photo, -1 when it has none.
        why_not: the ledger code for each record without a photo.
        contested: positions of photos that a label may mean, while nothing says which; they must not pass for background.
        splits: for each photo "train", "val", "test" or "".
    """

    photos: list[str]
    photo_of: list[int]
    why_not: dict[int, str] = field(default_factory=dict)
    contested: dict[int, str] = field(default_factory=dict)
    splits: list[str] = field(default_factory=list)


def resolve(
    labels: Labels,
    photos: Sequence[str],
    ledger: Ledger,
    refused: Mapping[int, str] = MappingProxyType({}),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Resolved:
    """Match every record and every line of a split list with a photo; what cannot be matched goes into the ledger.

    Args:
        refused: records (by number) that have no photo for a reason which is known, and noted, already.
        renamed: as in `FileSet`.
    """
    found = Resolved(sorted(set(photos) - labels.not_photos), [-1] * len(labels.images))
    number_of = {path: number for number, path in enumerate(found.photos)}
    references = References(found.photos, renamed)
    matches = _match(labels.images, references)
    for record, (image, match) in enumerate(zip(labels.images, matches, strict=True)):
        if record in refused:
            found.why_not[record] = refused[record]
        elif match.path:
            found.photo_of[record] = number_of[match.path]
            if match.rank == BY_STEM and is_image(image.label):
                detail = f"the label says {image.label}"
                ledger.add("image", "converted", "matched_by_stem", path=match.path, file=image.file, detail=detail)
            elif match.rank == BY_NAME and image.names and all(references.contradicts(name, match.path) for name in image.names):
                detail = f"the label says {image.label}"
                ledger.add("image", "converted", "matched_by_name", path=match.path, file=image.file, detail=detail)
        elif match.candidates:
            detail = f"may be {' or '.join(match.candidates)}"
            _leave_out(found, record, image, "ambiguous_image", detail, ledger)
            found.contested |= {number_of[path]: f"{image.label} in {image.file}" for path in match.candidates}
        else:
            _leave_out(found, record, image, "image_missing", "", ledger)
    _settle_claims(found, labels.images, matches, ledger)
    for number in {number for number in found.photo_of if number >= 0}:
        found.contested.pop(number, None)
    found.splits = _splits(found, labels, references, number_of, ledger)
    return found


def _leave_out(found: Resolved, record: int, image: LabelledImage, reason: str, detail: str, ledger: Ledger) -> None:
    found.photo_of[record] = -1
    found.why_not[record] = reason
    ledger.add("image", "dropped", reason, path=image.label, file=image.file, line=image.line, detail=detail)


def _match(images: Sequence[LabelledImage], references: References) -> list[Match]:
    parts: dict[tuple[str, str], list[LabelledImage]] = defaultdict(list)  # one file may hold all splits, each in its own folder
    for image in images:
        if image.names and not image.path:
            parts[image.file, image.split].append(image)
    roots = {part: _root(part[0], records, references) for part, records in parts.items()}
    return [_match_one(image, references, roots.get((image.file, image.split))) for image in images]


def _root(file: str, images: Sequence[LabelledImage], references: References) -> str | None:
    """The folder from which the names in a label file lead to files; None when that is not clear.

    Half of them must: the label file's own folder if no other has more, then one named after its split, then the one of most.
    """
    names = [image.names[0] for image in images[:: len(images) // ROOT_SAMPLE + 1]]
    votes = {root: count for root, count in references.roots(names).items() if 2 * count >= len(names)}
    own = references.source_name(file).rpartition("/")[0]
    own = f"{own}/" if own else ""
    if own in votes and votes[own] == max(votes.values()):
        return own
    split = images[0].split
    of_split = {root: count for root, count in votes.items() if split and split_of_folder(root) == split}
    if len(names) == 1 and not of_split:
        return None
    ranked = Counter(of_split or votes).most_common(2)
    return ranked[0][0] if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]) else None


def _match_one(image: LabelledImage, references: References, root: str | None) -> Match:
    if image.path:
        return Match(image.path)
    if root is not None and image.names and (path := references.exact(root + image.names[0])):
        return Match(path)
    undecided = Match()
    for name in image.names:
        match = references.find(name, image.file)
        if match.path and root is not None and match.rank != EXACT and references.contradicts(name, match.path):
            continue
        if match.path:
            return match
        undecided = undecided if undecided.candidates else match
    return undecided


def _settle_claims(found: Resolved, images: Sequence[LabelledImage], matches: Sequence[Match], ledger: Ledger) -> None:
    """Where several records mean one photo, the surer reference wins; equally sure ones are taken together."""
    claims: dict[int, list[int]] = defaultdict(list)
    for record, number in enumerate(found.photo_of):
        if number >= 0:
            claims[number].append(record)
    for number, records in claims.items():
        if len(records) == 1:
            continue
        best = min(matches[record].rank for record in records)
        winners = [record for record in records if matches[record].rank == best]
        for record in records:
            if record not in winners:
                detail = f"{found.photos[number]} belongs to {images[winners[0]].file}"
                _leave_out(found, record, images[record], "claimed_by_other", detail, ledger)
        if len(winners) > 1:
            sources = ", ".join(dict.fromkeys(images[record].file for record in winners))
            detail = f"{len(winners)} records, in {sources}"
            path, file = found.photos[number], images[winners[0]].file
            ledger.add("image", "converted", "merged_records", path=path, file=file, detail=detail)


def _splits(found: Resolved, labels: Labels, references: References, number_of: dict[str, int], ledger: Ledger) -> list[str]:
    said: list[set[str]] = [set() for _ in found.photos]
    for record, number in enumerate(found.photo_of):
        if number >= 0 and labels.images[record].split:
            said[number].add(labels.images[record].split)
    missing: dict[tuple[str, int], str] = {}  # darknet often gives one list for two splits
    for listed in labels.splits:
        for line, name in enumerate(listed.names, 1):
            path = name if listed.exact else references.find(name, listed.file).path
            if path in number_of:
                said[number_of[path]].add(listed.split)
            elif name.strip():
                missing[listed.file, line] = name.strip()
    for (file, line), name in missing.items():
        ledger.add("image", "dropped", "image_missing", path=name, file=file, line=line)
    overlaps = Counter(" and ".join(sorted(splits)) for splits in said if len(splits) > 1)
    for splits, count in overlaps.items():
        files = ", ".join(dict.fromkeys(listed.file for listed in labels.splits))
        detail = f"{count} images are in {splits}: they count as being in none"
        ledger.add("file", "kept", "overlapping_splits", file=files, detail=detail)
    return [
        "" if len(splits) > 1 else next(iter(splits), "") or split_of_folder(path)
        for splits, path in zip(said, found.photos, strict=True)
    ]
