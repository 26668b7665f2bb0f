"""`benchmark compare`, `history`, `recommend` and `show`: which records are meant, what is said, and what goes wrong how."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.bench import page, record
from pipeline.commands import Options
from pipeline.errors import UsageError
from pipeline.store import BENCHMARK, Store
from tests.bench_records import make_cell, make_machine, make_record, make_software, publish

JSON = dict[str, Any]
MAP = {"yolo11n-detect/onnx/fp32": {"map50_95": 0.4, "measured_on": "split@v1"}}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn has tests of its own, and takes its time."""
    monkeypatch.setattr(page, "write", lambda out, title, **parts: out / "index.html")


def written(name: str, ms: float = 40.0, *, seed: int = 0, cells: list[JSON] | None = None, **changed: Any) -> str:
    """The path of a record of one cell, or of these."""
    made = make_record([make_cell(ms, seed=seed)] if cells is None else cells, MAP, **{"label": ""} | changed)
    record.write(Path(name), made)
    return name


def published(*records: JSON) -> Store:
    store = Store(Path.cwd(), {})
    for made in records:
        publish(store, made)
    return store


def run(*words: str) -> int:
    return cli.main(["benchmark", *words])


# ---------------------------------------------------------------- compare


def test_two_machines_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [make_cell(40, seed=1), make_cell(30, task="pose", status="invalid", reasons=["drift of 12 %"])]
    laptop = written("laptop.json", cells=cells, label="laptop")
    workstation = written("work/record.json", 4, seed=2, label="", id="ba9876543210")
    assert run("compare", laptop, workstation) == 0
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if "faster" in line)
    assert row.split("  ")[1].startswith("detect · yolo11n-detect · onnx · fp32 · cpu, 2 threads · 640 px")
    assert "work is 9.99× [9.9" in row
    assert "laptop: invalid: pose" in out
    assert "drift of 12 %" in out
    assert "page and pictures: benchmark-comparison" in out
    assert {path.name for path in Path("benchmark-comparison").iterdir()} >= {"index.html", "ratios.png", "distributions.png"}


@pytest.mark.usefixtures("no_pictures")
def test_the_best_of_each_machine_stands_by_itself_where_it_is_another_pair(capsys: pytest.CaptureFixture[str]) -> None:
    laptop = written("laptop.json", cells=[make_cell(40), make_cell(30, runtime="openvino")])
    other = written("gpu.json", cells=[make_cell(20), make_cell(2, runtime="engine", device="cuda:0")])
    assert run("compare", laptop, other) == 0
    out = capsys.readouterr().out
    assert "like with like, end to end" in out
    assert "the best of each machine, end to end" in out
    assert "laptop by openvino on cpu, 2 threads, gpu by engine on cuda:0" in out
    assert run("compare", written("a.json"), written("b.json", 20)) == 0
    assert "the best of each machine" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_json_has_the_rows_and_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", written("a.json"), written("b.json", 4), "--json", "--phase", "inference") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["phase"] == "inference"
    assert document["rows"][0]["ratio"] == pytest.approx(10, rel=0.05)
    assert document["page"].endswith("index.html")


@pytest.mark.usefixtures("no_pictures")
def test_unlike_records_are_refused_and_with_force_marked(capsys: pytest.CaptureFixture[str]) -> None:
    method = make_record([])["method"] | {"min_seconds": 1.0}
    references = written("a.json"), written("b.json", 20, method=method)
    assert run("compare", *references) == 3
    assert "min_seconds is 3.0 in a and 1.0 in b" in capsys.readouterr().err
    assert run("compare", *references, "--force") == 0
    assert "not alike: method: min_seconds is 3.0 in a and 1.0 in b" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_a_partial_record_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", written("a.json"), written("b.json", partial=True, partial_reason="stopped by Ctrl-C")) == 0
    assert "warning: b is a partial record: stopped by Ctrl-C" in capsys.readouterr().err


def test_one_record_is_no_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", written("a.json")) == 2
    assert "A comparison needs two records." in capsys.readouterr().err


# ---------------------------------------------------------------- which record is meant


@pytest.mark.usefixtures("no_pictures")
def test_a_record_is_a_file_a_folder_or_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    published(make_record([make_cell(40)], label=""), make_record([make_cell(20)], label=""))
    written("results/record.json", 10)
    assert run("compare", "benchmark@v1", "benchmark@latest", "results", "results/record.json") == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if "benchmark@v1" in line and "cell" in line)
    assert "benchmark@v1" in header
    assert run("show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cells"][0]["phases"]["end_to_end"]["p50_ms"] == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(
    ("reference", "code", "said"),
    [
        ("absent.json", 3, "absent.json: cannot be read (No such file or directory)"),
        ("empty", 3, "record.json: cannot be read"),
        ("pack.zip", 2, "pack.zip is an archive, not a record."),
        ("benchmark@v1", 2, "here is none yet."),
        ("deep/cut.json", 3, str(Path("deep/cut.json:"))),
        ("deep/newer.json", 3, "newer.json: made by a newer release (schema 9"),
        ("deep/other.json", 3, "other.json: not a benchmark record"),
        ("deep/key.json", 3, "key.json: cells[0].batch: at least 1 expected, not 0"),
    ],
)
def test_what_is_no_record_is_told_by_file_and_key(
    reference: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("deep").mkdir()
    text = Path(written("good.json")).read_text(encoding="utf-8")
    Path("deep/cut.json").write_text(text[:500], encoding="utf-8")
    Path("deep/newer.json").write_text(json.dumps(json.loads(text) | {"schema": 9}), encoding="utf-8")
    Path("deep/other.json").write_text("{}", encoding="utf-8")
    broken = make_record([make_cell(batch=0)])
    Path("deep/key.json").write_text(json.dumps(broken), encoding="utf-8")
    assert run("compare", "good.json", reference) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_folder_with_a_page_of_somebody_else_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("site").mkdir()
    Path("site/index.html").write_text("<h1>mine</h1>", encoding="utf-8")
    Path("file").touch()
    references = written("a.json"), written("b.json")
    assert run("compare", *references, "--out", "site") == 2
    assert run("history", *references, "--out", "site") == 2
    assert run("recommend", *references, "--out", "file") == 2
    assert capsys.readouterr().err.count("--out") == 3
    assert Path("site/index.html").read_text(encoding="utf-8") == "<h1>mine</h1>"


def test_a_page_of_ours_is_written_anew() -> None:
    references = written("a.json"), written("b.json", 20)
    assert run("compare", *references, "--quiet") == 0
    first = Path("benchmark-comparison/index.html").read_bytes()
    assert run("compare", *references, "--quiet") == 0
    assert Path("benchmark-comparison/index.html").read_bytes() == first


# ---------------------------------------------------------------- history


def runs(*ms: float) -> list[JSON]:
    return [
        make_record(
            [make_cell(value, seed=day)],
            label="",
            created_at=f"2026-11-{day:02}T06:00:00Z",
            id=f"{day:012}",
            software=make_software(onnxruntime=f"1.{day}"),
        )
        for day, value in enumerate(ms, 1)
    ]


def test_the_history_of_the_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    published(*runs(40, 40, 50))
    assert run("history") == 0
    out = capsys.readouterr().out
    assert "slower than in benchmark@v2; since then onnxruntime 1.2 → 1.3" in out
    assert "1 of 1 cell slower than before" in out
    assert Path("benchmark-history/index.html").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_damaged_record_of_the_workspace_is_passed_over_but_not_one_that_was_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = published(*runs(40, 40, 40))
    path = store.every(BENCHMARK)[1].path / "record.json"
    path.write_text(path.read_text(encoding="utf-8")[:99], encoding="utf-8")
    assert run("history") == 0
    said = capsys.readouterr()
    assert "benchmark@v2 is left out: " in said.err
    assert "no change beyond 5%" in said.out
    assert run("history", "benchmark@v1", "benchmark@v2", "benchmark@v3") == 3


@pytest.mark.usefixtures("no_pictures")
def test_records_of_another_machine_are_left_out_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    names = [written(f"{n}.json", created_at=f"2026-11-0{n}T06:00:00Z") for n in (1, 2)]
    other = written("3.json", created_at="2026-10-01T06:00:00Z", machine=make_machine("Another CPU"))
    assert run("history", *names, other) == 0
    assert "3 is left out: another processor: Another CPU, not Example CPU 8" in capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1])
def test_a_history_needs_two_records(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    published(*runs(*[40] * count))
    assert run("history") == 2
    assert ("is one" if count else "is none") in capsys.readouterr().err


# ---------------------------------------------------------------- recommend and show


def test_the_choice_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [make_cell(40), make_cell(25, threads=4, seed=1)]
    published(make_record(cells, MAP, label="laptop"))
    assert run("recommend", "--target-fps", "30", "--min-map", "0.3", "--max-latency", "30") == 0
    out = capsys.readouterr().out
    assert "30 images per second, mAP50-95 of at least 0.3, 99 of 100 images within 30 ms" in out
    assert "← take this" in next(line for line in out.splitlines() if "4 threads" in line)
    assert "too late: p99 of" in next(line for line in out.splitlines() if "2 threads" in line)
    assert "its mAP was measured on split@v1" in out
    assert Path("benchmark-choice/pareto.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-map", "50"], "--min-map is a share, 0 to 1, not 50."),
        (["--target-fps", "0"], "--target-fps must be above 0, not 0."),
        (["--max-latency", "nan"], "--max-latency must be above 0, not nan."),
        (["--task", "poze"], "No record holds the task poze"),
        (["--device", "cuda"], "No cell ran on cuda"),
        (["--min-mpa", "0.5"], "Did you mean '--min-map'?"),
    ],
)
def test_wishes_that_cannot_be_meant(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("recommend", written("a.json"), *words) == 2
    assert said in capsys.readouterr().err


def test_the_table_of_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [make_cell(40), make_cell(task="pose", status="skipped", samples={}, phases={}, rounds=[], reasons=["no\x1b[2J GPU"])]
    assert run("show", written("a.json", cells=cells, label="lap\x1b[31mtop")) == 0
    out = capsys.readouterr().out
    assert "p50 [95 %]" in out
    assert "skipped: onnx fp32 on cpu: no�[2J GPU" in out
    assert "\x1b" not in out


def test_a_record_whose_cells_tell_the_whole_alone_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cell = make_cell(40)
    for part in ("phases", "samples"):
        cell[part] = {"end_to_end": cell[part]["end_to_end"]}
    assert run("show", written("a.json", cells=[cell])) == 0
    assert "detect" in capsys.readouterr().out


def test_each_command_has_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("compare", "--help")
    assert "benchmark compare" in (out := capsys.readouterr().out)
    assert "--phase" in out
    assert "--target-fps" not in out


PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmark.md"
TYPED = re.findall(r"^    python -m pipeline (benchmark\b.*?)(?: {2,}#.*)?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", TYPED)
def test_what_the_docs_tell_to_type_can_be_typed(line: str) -> None:
    options = Options()
    cli._parse(shlex.split(line), options)
    assert options.command.__module__ in ("pipeline.benchmark_command", "pipeline.bench_commands")


def test_the_docs_show_every_command() -> None:
    assert {" ".join(line.split()[1:2]) for line in TYPED} >= {"", "compare", "history", "recommend", "show", "--list"}


def test_showing_the_version_of_a_benchmark_that_was_never_made_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="benchmark has no version yet") as caught:
        Store(tmp_path, {}).resolve(BENCHMARK)
    assert caught.value.hint == "Run `python -m pipeline benchmark` first."
