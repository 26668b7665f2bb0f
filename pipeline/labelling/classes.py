"""The user's say in what the classes are: rename, merge, drop, keep, order.

    classes:
      rename: {RBCs: RBC}                 # one class, another name
      merge: {vehicle: [Car, Bus, Truck]} # several classes become one
      drop: [Tram]                        # their boxes go, each into the ledger; the images stay
      keep: [vehicle, person]             # instead of `drop`: everything else goes
      order: [person, vehicle]            # these first, in this order; the others after them in their own

`rename`, `merge` and `drop` speak of the names as the labels have them, and a name may stand in only one of the three.
`keep` and `order` speak of the names that result. A merged class takes the place of the first of its members. Every name
must exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from pipeline.errors import ParamsError, did_you_mean
from pipeline.stage import StageParams

KEY = "annotate.classes"


class Classes(StageParams):
    """See the module."""

    rename: dict[str, str] = Field(default_factory=dict, description="old name: new name")
    merge: dict[str, list[str]] = Field(default_factory=dict, description="new name: the classes that become it")
    drop: list[str] = Field(default_factory=list, description="classes whose boxes go")
    keep: list[str] = Field(default_factory=list, description="the only classes that stay (instead of drop)")
    order: list[str] = Field(default_factory=list, description="classes that come first, in this order")


def map_classes(names: Sequence[str], wish: Classes) -> tuple[tuple[str, ...], list[int]]:
    """The class names that result, and for each of `names` its position among them (-1: dropped).

    Raises:
        ParamsError: a name that the labels do not have, a contradiction, or nothing left; all findings at once.
    """
    problems = [*_unknown(names, wish), *_contradictions(names, wish)]
    if problems:
        raise ParamsError(f"{KEY} does not fit the labels", f"Classes in the labels: {', '.join(names)}.", problems)
    target = dict(wish.rename)
    for new, members in wish.merge.items():
        target |= dict.fromkeys(members, new)
    dropped = set(wish.drop)
    result = list(dict.fromkeys(target.get(name, name) for name in names if name not in dropped))
    problems = [
        f"{KEY}.{key}: '{name}' is no class. {did_you_mean(name, result)}"
        for key, wanted in (("keep", wish.keep), ("order", wish.order))
        for name in wanted
        if name not in result
    ]
    if problems:
        raise ParamsError(f"{KEY} does not fit the classes that result: {', '.join(result)}", "", problems)
    if wish.keep:
        result = [name for name in result if name in wish.keep]
    if not result:
        raise ParamsError(f"{KEY} leaves no class")
    ordered = [name for name in wish.order if name in result]
    ordered += [name for name in result if name not in wish.order]
    position = {name: number for number, name in enumerate(ordered)}
    return tuple(ordered), [-1 if name in dropped else position.get(target.get(name, name), -1) for name in names]


def _spoken_of(wish: Classes) -> list[tuple[str, str]]:
    """(key, name) for every mention of a class as the labels name it."""
    merged = [(f"merge.{new}", name) for new, members in wish.merge.items() for name in members]
    return [("rename", name) for name in wish.rename] + merged + [("drop", name) for name in wish.drop]


def _unknown(names: Iterable[str], wish: Classes) -> list[str]:
    known = set(names)
    wrong = [(key, name) for key, name in _spoken_of(wish) if name not in known]
    return [f"{KEY}.{key}: '{name}' is no class. {did_you_mean(name, known)}" for key, name in wrong]


def _contradictions(names: Sequence[str], wish: Classes) -> list[str]:
    problems = []
    for name, times in Counter(name for _, name in _spoken_of(wish)).items():
        if times > 1:
            problems.append(f"{KEY}: '{name}' stands in {', '.join(key for key, other in _spoken_of(wish) if other == name)}")
    for key, listed in (("order", wish.order), ("keep", wish.keep)):
        problems += [f"{KEY}.{key}: '{name}' stands there twice" for name, times in Counter(listed).items() if times > 1]
    if wish.drop and wish.keep:
        problems.append(f"{KEY}: give either `drop` or `keep`")
    moved = {name for _, name in _spoken_of(wish)}
    staying = {name for name in names if name not in moved}
    for new, times in Counter([*wish.rename.values(), *wish.merge]).items():
        if not new.strip():
            problems.append(f"{KEY}: a class needs a name")
        if times > 1 or new in staying:
            problems.append(f"{KEY}: two classes would be called '{new}'; to make them one, use `merge: {{{new}: [...]}}`")
    return problems
