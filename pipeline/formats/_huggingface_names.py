"""Where a Hugging Face data set names its classes: in the front matter of README.md, in dataset_info.json or dataset_infos.json,
and in the schema of a Parquet file. All describe the same features, README.md in YAML and the others in JSON.

https://huggingface.co/docs/datasets/about_dataset_features (ClassLabel).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.formats._json import parse
from pipeline.formats._ndjson import as_number
from pipeline.formats._yaml import parse as parse_yaml
from pipeline.labelling.labels import Malformed

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

CLASS_KEYS = (
    *("category_name", "category_names", "class_name", "class_names", "category", "categories", "category_id", "category_ids"),
    *("label", "labels", "class", "classes", "class_id", "class_ids", "class_label", "label_id", "label_ids", "name", "names"),
)
"""What the feature with the classes is called, the likeliest first; texts before numbers."""
_CARDS = ("README.md", "dataset_info.json", "dataset_infos.json")
_STRUCTURE = ("feature", "features", "sequence", "list", "struct", "dtype", "info", "dataset_info")


def names_near(files: FileSet, path: str, malformed: list[Malformed]) -> dict[int, str] | None:
    """Class names by number, from the description of the data set in the folder of `path` or the nearest above it.

    A description that cannot be parsed goes to `malformed`.
    """
    folder = path
    while folder:
        folder = folder.rpartition("/")[0]
        for card in (f"{folder}/{name}" if folder else name for name in _CARDS):
            if card not in files.members:
                continue
            try:
                names = names_in(_read_card(files, card))
            except DataError as error:
                found = Malformed.of(error, card)
                malformed += [found] if found not in malformed else []
                continue
            if names:
                return names
    return None


def _read_card(files: FileSet, path: str) -> Any:
    if path.endswith(".json"):
        return parse(files, path)
    lines = files.read_text(path).splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
    return parse_yaml("\n".join(lines[1:end]), path, first_line=2)


def names_in(description: Any) -> dict[int, str] | None:
    """The class names of the feature that is called most like a class; None where no feature has any."""
    found: dict[str, dict[int, str]] = {}
    for feature, names in _class_labels(description):
        found.setdefault(feature, names)
    key = next((key for key in (*CLASS_KEYS, *found) if key in found), None)
    return found[key] if key is not None else None


def _class_labels(description: Any) -> Iterator[tuple[str, dict[int, str]]]:
    """(feature, names by number) for every `class_label` (README.md) or `ClassLabel` (JSON), wherever it stands.

    Every part is looked at once: YAML can repeat a part, or have it contain itself.
    """
    pending, seen = [(description, "")], set()
    while pending:
        node, feature = pending.pop()
        if id(node) in seen or not isinstance(node, (dict, list)):
            continue
        seen.add(id(node))
        if isinstance(node, list):
            pending += [(part, feature) for part in reversed(node)]
            continue
        label = node if node.get("_type") == "ClassLabel" else node.get("class_label")
        names = _numbered(label.get("names")) if isinstance(label, dict) else None
        if names:
            yield feature, names
        own = node["name"] if isinstance(node.get("name"), str) else ""
        inner = [(part, own or (feature if key in _STRUCTURE else str(key))) for key, part in node.items()]
        pending += reversed(inner)


def _numbered(names: Any) -> dict[int, str] | None:
    rows = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    found = {as_number(key): name.strip() or f"class_{key}" for key, name in rows if isinstance(name, str)}
    return {number: found[number] for number in sorted(number for number in found if number is not None)} or None
