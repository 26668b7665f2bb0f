from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from pipeline import params
from pipeline.errors import ParamsError
from pipeline.stage import JSON, Stage, StageParams


class Inner(StageParams):
    degrees: float = Field(default=5, le=45)


class TrainParams(StageParams):
    epochs: int = Field(default=10, ge=1)
    lr0: float = 0.01
    rotate: Inner = Field(default_factory=Inner)
    names: list[str] = Field(default_factory=list)
    seed: int = 0


def nothing(*_: object) -> JSON:
    return {}


STAGES = {"train": Stage(inputs=(), params=TrainParams, run=nothing, version=1, root="runs", summary="")}


def load(tmp_path: Path, text: str, *overrides: str) -> params.Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return params.load(path, STAGES, overrides)


def problems(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_fill_what_is_not_written(tmp_path: Path) -> None:
    for text in ("", "train:\n", "train:\n  # epochs: 3\n"):
        assert load(tmp_path, text).stages["train"] == TrainParams()


def test_the_seed_reaches_the_stages_that_have_one(tmp_path: Path) -> None:
    assert load(tmp_path, "seed: 7").stages["train"].seed == 7
    assert load(tmp_path, "seed: 7\ntrain: {seed: 3}").stages["train"].seed == 3


def test_overrides_win_and_are_typed(tmp_path: Path) -> None:
    loaded = load(tmp_path, "train: {epochs: 3}", "train.epochs=20", "train.rotate.degrees=7.5", "train.names=[a, b]", "seed=2")
    train = loaded.stages["train"]
    assert (train.epochs, train.rotate.degrees, train.names, train.seed) == (20, 7.5, ["a", "b"], 2)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    assert load(tmp_path, "train: {lr0: 1e-3}").stages["train"].lr0 == 0.001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\ntrain:\n  epoch: 3\n", "params.yaml:3: unknown key 'train.epoch'. Did you mean 'epochs'?"),
        ("trian:\n  epochs: 3\n", "params.yaml:1: unknown key 'trian'. Did you mean 'train'?"),
        ("train:\n  epochs: ten\n", "params.yaml:2: train.epochs: Input should be a valid integer, got 'ten'"),
        ("train:\n  epochs: 0\n", "params.yaml:2: train.epochs: Input should be greater than or equal to 1, got 0"),
        ("train:\n  epochs: 3.0\n", "train.epochs: Input should be a valid integer, got 3.0"),
        ("train:\n  epochs: true\n", "train.epochs"),
        ("train:\n  rotate:\n    degree: 3\n", "params.yaml:3: unknown key 'train.rotate.degree'. Did you mean 'degrees'?"),
        ("train:\n  names: [a, 3]\n", "params.yaml:2: train.names.1"),
        ("train: 3\n", "train"),
        ("- a\n", "expected sections"),
        ("train: {epochs: 3\n", "params.yaml"),
        ("train:\n  epochs: 3\n  epochs: 4\n", "params.yaml:3: 'epochs' is given twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "params.yaml:1"),
        ("device: gpu\n", "device"),
    ],
)
def test_every_mistake_names_its_line_and_the_remedy(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(tmp_path, text)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = problems(tmp_path, "train:\n  epochs: 0\n  lr0: x\n  foo: 1\n")
    assert text.count("\n  - ") == 3


def test_a_mistake_on_the_command_line_says_so(tmp_path: Path) -> None:
    assert "--set: unknown key 'train.epoch'" in problems(tmp_path, "", "train.epoch=3")
    assert "--set: train.epochs" in problems(tmp_path, "train:\n  lr0: 1\n", "train.epochs=many")
    assert "section.key=value" in problems(tmp_path, "", "train.epochs")
    assert "single value" in problems(tmp_path, "seed: 1", "seed.x=1")


def test_a_missing_file_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="init DIR"):
        params.load(tmp_path / "params.yaml", STAGES)


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert params.load(tmp_path / "params.yaml", STAGES).seed == 3


def test_recipes_hold_every_value_with_its_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, "train:\n  rotate:\n  #  degrees: 3\n")
    assert loaded.values == {"train": loaded.stages["train"].model_dump(mode="json")}
    assert loaded.values["train"]["rotate"] == {"degrees": 5}
