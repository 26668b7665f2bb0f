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


def test_a_code_that_is_near_to_none_does_not_list_them_all() -> None:
    with pytest.raises(ParamsError) as caught:
        require_known(["nonsense"])
    assert str(caught.value).splitlines()[1:] == ["  - health.ignore: 'nonsense' is no code.", "docs/health.md lists them."]


def test_a_line_for_people_names_the_image_too_where_a_label_file_speaks_of_it() -> None:
    assert Item("a.jpg", "all.json").told() == "all.json (a.jpg)"
    assert Item("a.jpg", "train.txt", 7, detail="gone").told() == "train.txt:7 (a.jpg): gone"
    assert Item("a.jpg", detail="3 boxes").told() == "a.jpg: 3 boxes"
    assert Item(detail="Bus").told() == "Bus"


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


def test_a_line_of_a_split_list_without_its_photo_loses_no_label() -> None:
    line = Entry("image", "dropped", "image_missing", "gone.jpg", "train.txt", 7)
    assert codes_of(line) == {"split_list_missing": 1}
    assert codes_of(line, Entry("box", "dropped", "image_missing", "gone.jpg", "train.txt", 7)) == {"label_without_image": 1}
    label_files = [("a.json", 0), ("a.csv", 3), ("a.xml", 2), ("a.txt", 0)]
    assert codes_of(*[Entry("image", "dropped", "image_missing", "a.jpg", *place) for place in label_files]) == {
        "label_without_image": 4
    }


def test_an_image_that_was_dropped_is_no_background() -> None:
    kept = [Entry("image", "kept", "no_label_file", path) for path in ("e.jpg", "h.heic", "n.png", "sound.jpg")]
    reasons = {"e.jpg": "empty_file", "h.heic": "unsupported_kind", "n.png": "not_an_image"}
    dropped = [Entry("image", "dropped", reason, path) for path, reason in reasons.items()]
    found = {one.code: [item.path for item in one.items] for one in findings_of([*kept, *dropped])}
    assert found == {
        "image_unlabelled": ["sound.jpg"],
        "image_unreadable": ["e.jpg", "n.png"],
        "image_unsupported": ["h.heic"],
    }
    boxes = [Entry("box", "dropped", reason, path) for path, reason in reasons.items()]
    assert codes_of(*boxes) == {}
    assert codes_of(Entry("image", "dropped", "no_label_file", "a.jpg")) == {}  # the user wanted it so


def test_what_newer_parts_of_the_import_note_has_a_code_of_its_own() -> None:
    reasons = {
        "in_two_sources": "box_in_two_sources",
        "overlapping_splits": "split_overlap",
        "link_not_followed": "link_left_out",
        "unsafe_name": "label_unplaced",
        "no_size": "label_unplaced",
        "suffix_assumed": "label_other_suffix",
        "frame_undecided": "exif_undecided",
        "class_names_invented": "class_names_missing",
    }
    for reason, code in reasons.items():
        assert codes_of(Entry("box" if reason == "in_two_sources" else "image", "dropped", reason, "a.jpg")) == {code: 1}
    assert codes_of(Entry("box", "dropped", "no_size", "a.jpg"), Entry("box", "dropped", "unsafe_name", "b.jpg")) == {}


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
