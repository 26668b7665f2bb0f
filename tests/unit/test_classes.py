from __future__ import annotations

import pytest

from pipeline.errors import ParamsError
from pipeline.labelling.classes import Classes, map_classes

NAMES = ["Car", "Bus", "Truck", "Tram", "Pedestrian"]


def test_nothing_wished_changes_nothing() -> None:
    assert map_classes(NAMES, Classes()) == (tuple(NAMES), [0, 1, 2, 3, 4])


def test_rename() -> None:
    names, positions = map_classes(NAMES, Classes(rename={"Pedestrian": "person"}))
    assert names == ("Car", "Bus", "Truck", "Tram", "person")
    assert positions == [0, 1, 2, 3, 4]


def test_two_names_can_be_exchanged() -> None:
    assert map_classes(["a", "b"], Classes(rename={"a": "b", "b": "a"})) == (("b", "a"), [0, 1])


def test_merge_takes_the_place_of_the_first_member() -> None:
    names, positions = map_classes(NAMES, Classes(merge={"vehicle": ["Truck", "Bus"]}))
    assert names == ("Car", "vehicle", "Tram", "Pedestrian")
    assert positions == [0, 1, 1, 2, 3]


def test_merge_into_one_of_the_members() -> None:
    assert map_classes(NAMES, Classes(merge={"Car": ["Car", "Bus"]}))[1] == [0, 0, 1, 2, 3]


def test_drop_and_keep() -> None:
    assert map_classes(NAMES, Classes(drop=["Bus", "Tram"])) == (("Car", "Truck", "Pedestrian"), [0, -1, 1, -1, 2])
    assert map_classes(NAMES, Classes(rename={"Bus": "bus"}, keep=["Tram", "bus"])) == (("bus", "Tram"), [-1, 0, -1, 1, -1])


def test_order_puts_the_listed_first() -> None:
    names, positions = map_classes(NAMES, Classes(order=["Pedestrian", "Car"]))
    assert names == ("Pedestrian", "Car", "Bus", "Truck", "Tram")
    assert positions == [1, 2, 3, 4, 0]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"drop": ["Buss"]}, r"annotate.classes.drop: 'Buss' is no class. Did you mean 'Bus'\?"),
        ({"rename": {"car": "x"}}, r"annotate.classes.rename: 'car' is no class. Did you mean 'Car'\?"),
        ({"merge": {"vehicle": ["Car", "Lorry"]}}, r"annotate.classes.merge.vehicle: 'Lorry' is no class. Known: Bus, Car"),
        ({"order": ["Bus"], "rename": {"Bus": "bus"}}, r"annotate.classes.order: 'Bus' is no class. Did you mean 'bus'\?"),
        ({"keep": ["person"]}, r"annotate.classes.keep: 'person' is no class"),
        ({"rename": {"Bus": "Car"}}, r"two classes would be called 'Car'; to make them one, use `merge"),
        ({"rename": {"Bus": "x", "Car": "x"}}, r"two classes would be called 'x'"),
        ({"merge": {"Tram": ["Bus", "Car"]}}, r"two classes would be called 'Tram'"),
        ({"rename": {"Bus": "x"}, "drop": ["Bus"]}, r"'Bus' stands in rename, drop"),
        ({"drop": ["Bus"], "keep": ["Car"]}, r"give either `drop` or `keep`"),
        ({"order": ["Bus", "Bus"]}, r"'Bus' stands there twice"),
        ({"rename": {"Bus": " "}}, r"a class needs a name"),
        ({"drop": NAMES}, r"leaves no class"),
    ],
)
def test_what_makes_no_sense_is_refused(wish: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        map_classes(NAMES, Classes.model_validate(wish))


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ParamsError) as error:
        map_classes(NAMES, Classes(drop=["x", "y"], rename={"z": "w"}))
    assert len(error.value.problems) == 3
    assert "Classes in the labels: Car, Bus" in error.value.hint
