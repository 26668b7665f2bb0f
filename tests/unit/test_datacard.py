from __future__ import annotations

from pipeline import datacard
from pipeline.dataset import Dataset
from pipeline.health.findings import Item, finding

FACTS = {"source": "the folder 'photos'", "license": "CC BY 4.0", "homepage": "https://example.org/a_b", "description": ""}


def dataset(names: tuple[str, ...] = ("cat", "dog"), splits: tuple[str, ...] = ("train", "train", "val")) -> Dataset:
    rows = [{"path": f"{i}.jpg", "width": 64, "height": 48, "split": split, "group_id": "g"} for i, split in enumerate(splits)]
    return Dataset.from_rows(names, rows, [(0, 0, 1, 1, 9, 9), (0, 1, 1, 1, 9, 9), (1, 0, 1, 1, 9, 9)])


def test_the_card_tells_origin_counts_classes_splits_and_problems() -> None:
    found = [
        finding("leak_group", [Item("a", other="b")], "of 3"),
        finding("class_balance", [], "info is not a problem", 3),
    ]
    card = datacard.write(dataset(), FACTS, found)
    assert card.startswith(
        "# Data card\n\n| origin |  |\n| --- | --- |\n| source | the folder 'photos' |\n| licence | CC BY 4.0 |\n"
    )
    assert "| homepage | <https://example.org/a_b> |" in card
    assert "description" not in card
    assert "3 images, 3 boxes, 2 classes; 1 without a box. All images are 64 x 48 px." in card
    assert "| 0 | cat | 2 | 66.7% | 2 |" in card
    assert "| train | 2 | 66.7% | 3 | 1 |" in card
    assert "| error | `leak_group` | 1 | Images of one group or source on two sides of the split | of 3 |" in card
    assert "info is not a problem" not in card


def test_a_missing_licence_is_told_and_no_split_and_no_problem_have_no_table() -> None:
    card = datacard.write(dataset(splits=("", "", "")), {}, [])
    assert "| licence | unknown |" in card
    assert "## Splits" not in card
    assert "None that the checks know of." in card


def test_what_users_wrote_stays_text_within_its_cell() -> None:
    nasty = "a|b\n# head <img src=x> [click](javascript:x) `c` *d* _e_ ~~f~~ &lt; \\| $g$"
    card = datacard.write(dataset((nasty, "dog")), {"source": nasty}, [])
    expected = (
        "a\\|b # head \\<img src=x\\> \\[click\\](javascript:x) \\`c\\` \\*d\\* \\_e\\_ \\~\\~f\\~\\~ \\&lt; \\\\\\| \\$g\\$"
    )
    assert f"| source | {expected} |" in card
    assert f"| 0 | {expected} | 2 |" in card
    assert not [line for line in card.splitlines() if line.startswith("# head")]


def test_only_what_is_nothing_but_a_web_address_becomes_a_link() -> None:
    for homepage in ("javascript:alert(1)", "https://a.org|x", "https://a.org> <b>", "see https://a.org"):
        assert f"| homepage | {datacard.plain(homepage)} |" in datacard.write(dataset(), {"homepage": homepage}, [])


def test_an_empty_data_set_has_a_card_too() -> None:
    assert "0 images, 0 boxes, 0 classes; 0 without a box." in datacard.write(Dataset.from_rows((), [], []), {}, [])


def test_of_thousands_of_classes_the_first_are_listed() -> None:
    card = datacard.write(dataset(tuple(f"class {i}" for i in range(1500))), {}, [])
    assert "| 199 | class 199 |" in card
    assert "| 200 |" not in card
    assert "… and 1,300 more" in card
