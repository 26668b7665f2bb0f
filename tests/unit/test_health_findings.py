from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipeline.errors import ParamsError
from pipeline.health.accounts import CODE_OF_REASON, findings_of
from pipeline.health.findings import CODES, MOST_ITEMS, SEVERITIES, Item, arranged, counts, finding, require_known
from pipeline.labelling.importing import CHOSEN_REASONS
from pipeline.ledger import Entry

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_lists_every_code_as_the_table_has_it() -> None:
    lines = (ROOT / "docs" / "health.md").read_text(encoding="utf-8").splitlines()
    expected = [f"| `{code}` | {kind.severity} | {kind.title} | {kind.remedy} |" for code, kind in CODES.items()]
    assert [line for line in lines if line.startswith("| `")] == expected


def test_every_code_can_be_found_and_no_other() -> None:
    modules = [path for path in (ROOT / "pipeline" / "health").glob("*.py") if path.name != "findings.py"]
    texts = {
        node.value
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert CODES.keys() <= texts
    assert set(CODE_OF_REASON.values()) <= CODES.keys()


def test_every_remedy_and_title_is_one_line_without_a_bar() -> None:
    for code, kind in CODES.items():
        assert kind.severity in SEVERITIES
        for text in (kind.title, kind.remedy):
            assert text, code
            assert not set("|\n") & set(text), code


def test_findings_of_one_code_are_joined_and_errors_come_first() -> None:
    found = [
        finding("class_rare", [Item(detail="a")]),
        finding("box_duplicate", [Item("x.jpg")] * 15, "from the import"),
        finding("leak_group", [Item("a", other="b")]),
        finding("box_duplicate", [Item("y.jpg")] * 15, "in the data set"),
    ]
    result = arranged(found)
    assert [one.code for one in result] == ["leak_group", "box_duplicate", "class_rare"]
    double = result[1]
    assert (double.count, len(double.items), double.detail) == (30, MOST_ITEMS, "from the import; in the data set")
    assert counts(result) == {"error": 1, "warning": 2, "info": 0}
    assert [one.code for one in arranged(found, ["box_duplicate", "leak_group"])] == ["class_rare"]


def test_a_code_that_does_not_exist_is_an_error_with_the_nearest_one() -> None:
    require_known(["class_rare"])
    with pytest.raises(ParamsError, match=r"'clas_rare' is no code\. Did you mean 'class_rare'\?") as caught:
        require_known(["class_rare", "clas_rare"])
    assert caught.value.exit_code == 2


def test_where_names_the_line_the_two_images_or_the_detail() -> None:
    assert Item("a.jpg", "a.txt", 3).where() == "a.txt:3"
    assert Item("a.jpg", "a.json").where() == "a.json"
    assert Item("a.jpg", other="b.jpg").where() == "a.jpg = b.jpg"
    assert Item(detail="Bus").where() == "Bus"


def codes_of(*entries: Entry) -> dict[str, int]:
    return {found.code: found.count for found in findings_of(entries)}


def test_entries_of_the_ledger_become_findings_with_file_and_line() -> None:
    (found,) = findings_of([Entry("box", "dropped", "zero_area", "a.jpg", "a.txt", 4, "0, 0, 5, 5")])
    assert (found.code, found.severity, found.count) == ("box_zero_area", "error", 1)
    assert found.items[0].where() == "a.txt:4"
    assert found.items[0].detail == "0, 0, 5, 5"


def test_a_code_that_stands_for_several_reasons_counts_each() -> None:
    shapes = ["polygon", "mask", "polygon"]
    (found,) = findings_of([Entry("box", "converted", reason, "a.jpg") for reason in shapes])
    assert (found.code, found.count, found.detail) == ("shape_converted", 3, "2 polygon, 1 mask")


def test_boxes_that_share_the_fate_of_their_image_are_not_told_again() -> None:
    image = Entry("image", "dropped", "image_missing", "a.jpg", "a.xml")
    assert codes_of(image, *[Entry("box", "dropped", "image_missing", "a.jpg", "a.xml", line) for line in (1, 2)]) == {
        "label_without_image": 1
    }


def test_what_the_user_chose_is_silent_or_a_note_and_unknown_defects_are_told() -> None:
    assert codes_of(Entry("box", "dropped", "class_dropped")) == {}
    assert codes_of(Entry("image", "dropped", "duplicate_image"), Entry("box", "dropped", "image_dropped")) == {
        "image_duplicate": 1
    }
    assert codes_of(Entry("box", "dropped", "crowd"), Entry("box", "dropped", "polyline")) == {"label_item_skipped": 2}
    assert codes_of(Entry("box", "dropped", "something_new")) == {"other_defect": 1}
    assert codes_of(Entry("file", "kept", "something_new")) == {"import_note": 1}
    chosen = [Entry("box", "dropped", reason) for reason in CHOSEN_REASONS]
    assert {found.severity for found in findings_of(chosen)} <= {"info", "warning"}
