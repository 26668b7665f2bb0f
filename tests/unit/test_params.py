from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, model_validator

from pipeline import params
from pipeline.errors import ParamsError
from pipeline.stage import JSON, Stage, StageParams


class Inner(StageParams):
    degrees: float = Field(default=5, le=45)


class Share(StageParams):
    a: float = 0.5
    b: float = 0.5

    @model_validator(mode="after")
    def _whole(self) -> Share:
        if self.a + self.b != 1:
            raise ValueError(f"a + b must be 1, got {self.a + self.b:g}")
        return self


class TrainParams(StageParams):
    epochs: int = Field(default=10, ge=1)
    lr0: float = 0.01
    rotate: Inner = Field(default_factory=Inner)
    names: list[str] = Field(default_factory=list)
    size: int | list[int] = 0
    words: dict[str, str] = Field(default_factory=dict)
    share: Share = Field(default_factory=Share)
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
        ("train:\n  epochs: ten\n", "params.yaml:2: train.epochs: expected a whole number, got 'ten'"),
        ("train:\n  epochs: 0\n", "params.yaml:2: train.epochs: must be at least 1, got 0"),
        ("train:\n  epochs: 3.0\n", "params.yaml:2: train.epochs: expected a whole number, got 3.0"),
        ("train:\n  epochs: 1e9\n", "params.yaml:2: train.epochs: expected a whole number, got 1e9"),
        ("train:\n  epochs: true\n", "params.yaml:2: train.epochs: expected a whole number, got true"),
        ("train:\n  epochs:\n", "params.yaml:2: train.epochs: expected a whole number, got nothing"),
        ("train:\n  rotate:\n    degree: 3\n", "params.yaml:3: unknown key 'train.rotate.degree'. Did you mean 'degrees'?"),
        ("train:\n  rotate:\n    degrees: 60\n", "params.yaml:3: train.rotate.degrees: must be at most 45, got 60"),
        ("train:\n  names: [a, 3]\n", "params.yaml:2: train.names.1: expected text, got 3; put it in quotes"),
        ("train:\n  names: a\n", "params.yaml:2: train.names: expected a list, got 'a'; write [a]"),
        ("train:\n  size: a # int\n", "params.yaml:2: train.size: expected a whole number or a list, got 'a'"),
        ("train:\n  size: [1, a]\n", "params.yaml:2: train.size.1: expected a whole number, got 'a'"),
        ("train:\n  words: {a: 1}\n", "params.yaml:2: train.words.a: expected text, got 1; put it in quotes"),
        ("train:\n  words: {1: a}\n", "params.yaml:2: train.words.1: expected text, got 1; put it in quotes"),
        ("train: 3\n", "params.yaml:1: train: expected keys such as epochs, lr0, rotate, got 3"),
        ("1: 2\n", "params.yaml:1: 1: expected text, got 1; put it in quotes"),
        ("device: gpu\n", "params.yaml:1: device: expected auto, cpu, mps, cuda or cuda:0, got 'gpu'"),
        ("workers: many\n", "params.yaml:1: workers: expected a whole number or auto, got 'many'"),
        ("workers: 0\n", "params.yaml:1: workers: must be at least 1, got 0"),
        ("train:\n  lr0: 1\n\nseed: 99999999999\n", "params.yaml:4: seed: must be at most 2147483647, got 99999999999"),
        ("train:\n  seed: a\n", "params.yaml:2: train.seed: expected a whole number, got 'a'"),
    ],
)
def test_every_mistake_is_one_sentence_with_its_line_in_plain_words(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == f"The params cannot be used:\n  - {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "params.yaml: expected sections such as `train:`, got a list."),
        ("hello\n", "params.yaml: expected sections such as `train:`, got text."),
        ("train: {epochs: 3\n", "params.yaml:1: a mapping is not closed"),
        ("train:\n  names: [a\nseed: 3\n", "params.yaml:2: a list is not closed"),
        ("train:\n  model: 'a\nseed: 3\n", "params.yaml:2: a quotation mark is not closed."),
        ("train:\n\tepochs: 3\n", "params.yaml:2: there is a tab; YAML wants spaces."),
        ("train:\n  epochs: 3\n lr0: 1\n", "params.yaml:3: this line is not indented like those it belongs to."),
        ("train:\n  a: b: c\n", "params.yaml:2: a ':' stands where none may"),
        ("train:\n  names: [@a]\n", "params.yaml:2: text that begins with '@' must stand in quotes."),
        ("train:\n  epochs: 3\n  epochs: 4\n", "params.yaml:3: 'epochs' is given twice."),
        ("a: !!python/object/apply:os.system [ls]\n", "params.yaml:1: words that begin with '!' are not understood here"),
        ("seed: 1\n{[a]: b}: 3\n", "params.yaml:2: a key must be plain text."),
        ("a: *b\n", "params.yaml:1: text that begins with '*' must stand in quotes."),
        ("a: &a [*a]\n", "params.yaml:1: an alias ('*') stands for something that holds it."),
        ("&a [*a]\n", "params.yaml: aliases ('*') make more than 100,000 values of it."),
        ("seed: 2024-13-45\n", "params.yaml: not valid YAML: month must be in 1..12."),
        ("train:\n  lr0: .nan\n", "params.yaml:2: .nan is no number that can be used."),
        ("train:\n  lr0: 1e999\n", "params.yaml:2: 1e999 is no number that can be used."),
        ("seed: " + "[" * 5000 + "]" * 5000, "params.yaml: lists or mappings lie too deep in each other."),
        ("seed: \x01\n", "params.yaml: this is no text: it holds control characters."),
    ],
)
def test_what_is_no_yaml_is_said_in_plain_words(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(tmp_path, text)


def test_a_few_lines_of_aliases_fill_neither_the_memory_nor_the_screen(tmp_path: Path) -> None:
    def bomb(levels: int) -> str:
        lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
        lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, levels)]
        return "\n".join([*lines, f"seed: *x{levels - 1}", ""])

    assert "params.yaml: aliases ('*') make more than 100,000 values of it." in problems(tmp_path, bomb(9))
    text = problems(tmp_path, bomb(3))
    assert "seed: expected a whole number, got [[['a', 'a', 'a', ...]" in text
    assert max(map(len, text.splitlines())) < 200


def test_long_values_are_cut(tmp_path: Path) -> None:
    for text in (f"seed: {'x' * 100_000}\n", f"seed: [{'y, ' * 1000}]\n", f"{'k' * 10_000}: 1\n"):
        assert max(map(len, problems(tmp_path, text).splitlines())) < 200


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfes\x00e\x00", "params.yaml is no text in UTF-8.\nSave it as UTF-8"),
        (b"seed: \xe9\n", "params.yaml is no text in UTF-8.\nSave it as UTF-8"),
    ],
)
def test_files_in_another_encoding(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        params.load(tmp_path / "params.yaml", STAGES)
    assert expected in str(caught.value)


def test_a_folder_instead_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"is a folder\.\nName the file by --params, such as .*params\.yaml"):
        params.load(tmp_path, STAGES)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = problems(tmp_path, "train:\n  epochs: 0\n  lr0: x\n  foo: 1\n")
    assert text.count("\n  - ") == 3


@pytest.mark.parametrize(
    ("text", "override", "expected"),
    [
        ("", "train.epoch=3", "command line: unknown key 'train.epoch'. Did you mean 'epochs'?"),
        ("train:\n  lr0: 1\n", "train.epochs=many", "command line: train.epochs: expected a whole number, got 'many'"),
        ("", "trian.epochs=3", "command line: unknown key 'trian'. Did you mean 'train'?"),
        ("train:\n  epochs: 3\n", "train=3", "command line: train: expected keys"),
        ("train:\n  epochs: 3\n", "seed=99999999999", "command line: seed: must be at most"),
        (
            "train:\n  share: {a: 0.5, b: 0.5}\n",
            "train.share.a=0.9",
            "command line and params.yaml:2: train.share: a + b must be 1",
        ),
        ("train:\n  epochs: 3\n", "train.share.a=0.9", "command line: train.share: a + b must be 1"),
        ("train:\n  epochs: 0\n", "train.lr0=1", "params.yaml:2: train.epochs: must be at least 1"),
        ("", "train.names=[a", "command line: train.names: a list is not closed"),
        ("", "train.names=[a", """give it quotes of its own: 'train.names="[a"'"""),
        ("", "train.epochs", "'train.epochs' is not of the form section.key=value."),
        ("seed: 1", "seed.x=1", "command line: 'seed.x=1': 'seed' is a single value"),
    ],
)
def test_a_mistake_is_blamed_on_where_it_was_made(tmp_path: Path, text: str, override: str, expected: str) -> None:
    assert expected in problems(tmp_path, text, override)


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
