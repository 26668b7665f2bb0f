"""What the README of a data set says in its front matter: licence, tables, class names.

https://huggingface.co/docs/hub/datasets-cards, https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import DataError
from pipeline.formats._huggingface_names import names_in
from pipeline.formats._yaml import parse as parse_yaml
from pipeline.sources._huggingface_files import download
from pipeline.sources._huggingface_hub import Commit, Hub
from pipeline.wording import one_line

README = "README.md"
MAX_BYTES = 20_000_000


@dataclass(frozen=True)
class Card:
    """Everything is as a stranger wrote it, but of the types that are told here.

    Attributes:
        license: in one line; "" when it is not told.
        configs: the tables that the repository declares, by name.
    """

    license: str = ""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _infos: Any = None

    def class_names(self, config: str) -> dict[int, str] | None:
        """Class names by number of a table, where the README describes its columns."""
        infos = self._infos if isinstance(self._infos, list) else [self._infos]
        own = [info for info in infos if isinstance(info, dict) and info.get("config_name", "default") == config]
        return names_in(own[0] if own else infos[0] if len(infos) == 1 else None)


def read_card(hub: Hub, commit: Commit) -> Card:
    """The card of a commit; an empty one, and a warning, where it cannot be read.

    Raises:
        NetworkError: it cannot be had.
    """
    entry = next((entry for entry in commit.entries if entry.path == README and entry.size <= MAX_BYTES), None)
    if entry is None:
        return Card()
    text = download(hub, commit, [entry], "ask for the card")[README].path.read_bytes().decode("utf-8-sig", "replace")
    try:
        front = _front_matter(text, f"{README} of {commit.repo}")
    except DataError as error:
        hub.context.warn(f"{error.message}: its licence and tables are not known.")
        return Card()
    configs = front.get("configs")
    named = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    return Card(_license(front), {str(config.get("config_name")): config for config in named}, front.get("dataset_info"))


def _front_matter(text: str, where: str) -> dict[str, Any]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
    value = parse_yaml("\n".join(lines[1:end]), where, first_line=2)
    return value if isinstance(value, dict) else {}


def _license(front: Mapping[str, Any]) -> str:
    """`cc-by-4.0`; of several all; the name and link that stand beside `other`."""
    given = front.get("license")
    names = [one_line(str(name)) for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)]
    beside = [one_line(str(front[key])) for key in ("license_name", "license_link") if isinstance(front.get(key), str)]
    return one_line(", ".join([*(name for name in names if name != "other" or not beside), *beside]))
