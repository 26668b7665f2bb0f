from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import files, params, runner
from pipeline.errors import ArtifactError, DataError, UsageError
from pipeline.runner import Outcome, Runner, Step
from pipeline.stage import Advance, Context, Stage, StageParams
from pipeline.store import Store


class Words(StageParams):
    word: str = "a"
    upper: bool = False


class Silent:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.started_stages: list[str] = []
        self.warnings: list[str] = []

    def plan(self, steps: Any) -> None: ...
    def started(self, step: Step) -> None:
        self.started_stages.append(step.stage)

    def finished(self, outcome: Outcome) -> None: ...
    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        yield lambda n=1, **info: None


def write(inputs: Mapping[str, Path], values: Words, out: Path, context: Context) -> dict[str, Any]:
    text = "".join((folder / "text").read_text() for folder in inputs.values()) + values.word
    files.write_text(out / "text", text.upper() if values.upper else text)
    return {"length": len(text), "previous": context.previous.name if context.previous else None}


def stage(*inputs: str, **changes: Any) -> Stage:
    return Stage(**{"inputs": inputs, "params": Words, "run": write, "version": 1, "root": "datasets", "summary": "", **changes})


STAGES = {"a": stage(), "b": stage("a"), "c": stage("b"), "d": stage("a", "c")}


class Bench:
    """A workspace with toy stages."""

    def __init__(self, folder: Path, stages: Mapping[str, Stage] = STAGES) -> None:
        self.folder, self.stages = folder, dict(stages)
        self.store = Store(folder, {name: stage.root for name, stage in stages.items()})
        self.reporter = Silent()
        (folder / "params.yaml").touch()

    def runner(self, *overrides: str) -> Runner:
        self.reporter = Silent()
        loaded = params.load(self.folder / "params.yaml", self.stages, overrides)
        return Runner(self.stages, loaded, self.store, self.reporter)

    def run(self, *overrides: str, only: list[str] | None = None, forced: tuple[str, ...] = ()) -> list[str]:
        """The stages that really ran."""
        self.runner(*overrides).run(only or list(self.stages), forced)
        return self.reporter.started_stages

    def reasons(self, *overrides: str, forced: tuple[str, ...] = ()) -> dict[str, str]:
        return {s.stage: "; ".join(s.reasons) for s in self.runner(*overrides).plan(list(self.stages), forced).steps if s.run}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_everything_runs_once_and_then_nothing(bench: Bench) -> None:
    assert bench.run() == ["a", "b", "c", "d"]
    assert (bench.store.resolve("d").path / "text").read_text() == "aaaaa"
    assert bench.run() == []
    assert [len(bench.store.versions(name)) for name in STAGES] == [1, 1, 1, 1]


def test_a_changed_param_renews_what_lies_below(bench: Bench) -> None:
    bench.run()
    assert bench.reasons("b.word=x") == {"b": "word a → x", "c": "b v1 → v2", "d": "c v1 → v2"}
    assert bench.run("b.word=x") == ["b", "c", "d"]


def test_going_back_to_old_params_reuses_the_old_versions(bench: Bench) -> None:
    bench.run()
    bench.run("b.word=x")
    assert bench.run() == []


def test_equal_bytes_upstream_cut_the_rerun_off(bench: Bench) -> None:
    bench.run("a.word=A")
    # Another recipe of `a` with the same bytes: only `a` itself runs.
    assert bench.run("a.word=a", "a.upper=true") == ["a"]
    assert bench.store.resolve("a@v2").digest == bench.store.resolve("a@v1").digest


def test_a_stage_that_reads_manifests_runs_again_for_the_same_bytes_of_another_recipe(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"a": stage(), "b": stage("a"), "c": stage("a", reads_manifests=True)})
    bench.run("a.word=A")
    assert bench.run("a.word=a", "a.upper=true") == ["a", "c"]
    assert bench.run("a.word=a", "a.upper=true") == []


def test_reasons_name_every_cause(bench: Bench) -> None:
    assert bench.reasons()["a"] == "no version yet"
    bench.run()
    assert bench.reasons("a.word=x", "a.upper=true")["a"] == "word a → x; upper False → True"
    assert bench.reasons(forced=("c",)) == {"c": "forced", "d": "c v1 → v2"}


def test_code_library_and_external_changes_are_reasons(tmp_path: Path) -> None:
    outside = {"photos": "1"}
    stages = {"a": stage(external=lambda values, context: dict(outside), libraries=("numpy",))}
    bench = Bench(tmp_path, stages)
    bench.run()
    assert bench.run() == []
    outside["photos"] = "2"
    assert bench.reasons() == {"a": "photos changed"}
    outside["photos"] = "1"
    bench.stages["a"] = stage(external=lambda values, context: dict(outside), libraries=("numpy",), version=2)
    assert bench.reasons() == {"a": "the stage's code changed"}


def test_force_runs_again_and_downstream_is_cut_off(bench: Bench) -> None:
    bench.run()
    assert bench.run(forced=("a",)) == ["a"]
    assert len(bench.store.versions("a")) == 2


def test_one_stage_uses_what_is_there_and_says_when_it_is_old(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"b needs a, which has no version yet.*\n?.*run \.\.b"):
        bench.run(only=["b"])
    bench.run()
    assert bench.run("c.word=x", only=["c"]) == ["c"]
    assert bench.reporter.warnings == []
    assert bench.run("a.word=z", "c.word=y", only=["c"]) == ["c"]
    assert bench.reporter.warnings[0].startswith("a@v1 is used as it is")


def test_inputs_of_two_lineages_are_not_mixed(tmp_path: Path) -> None:
    """Like evaluate, which reads train and split: a new split must not be measured with a model of the old one."""
    bench = Bench(tmp_path, {"split": stage(), "train": stage("split"), "evaluate": stage("split", "train")})
    bench.run("split.word=old")
    bench.run("split.word=new", only=["split"])
    for selected in (["evaluate"], ["split", "evaluate"]):
        with pytest.raises(UsageError, match=r"mix two versions of split(.|\n)*run split\.\.evaluate"):
            bench.run("split.word=new", only=selected)
    assert bench.run("split.word=new") == ["train", "evaluate"]
    assert bench.run("split.word=old") == []


def test_a_cut_off_is_no_mixture(tmp_path: Path) -> None:
    """Like report, which reads collect and train: a collect of other bytes that makes the same annotate is no conflict."""

    def constant(inputs: Mapping[str, Path], values: Words, out: Path, context: Context) -> dict[str, Any]:
        files.write_text(out / "text", "always the same")
        return {}

    stages = {"collect": stage(), "annotate": stage("collect", run=constant), "train": stage("annotate")}
    bench = Bench(tmp_path, {**stages, "report": stage("collect", "train")})
    bench.run("collect.word=one")
    assert bench.run("collect.word=two") == ["collect", "annotate", "report"]
    assert bench.run("collect.word=one") == []


def test_a_forced_stage_takes_no_file_over_but_keeps_its_history(tmp_path: Path) -> None:
    seen: list[tuple[object, object]] = []

    def remember(inputs: Mapping[str, Path], values: Words, out: Path, context: Context) -> dict[str, Any]:
        seen.append((context.previous, context.history))
        files.write_text(out / "text", "x")
        return {}

    bench = Bench(tmp_path, {"a": stage(run=remember)})
    bench.run()
    bench.run(forced=("a",))
    version = bench.store.resolve("a@v1").path
    assert seen == [(None, None), (None, version)]


def test_a_damaged_version_is_made_anew_and_what_lies_below_is_cut_off(bench: Bench) -> None:
    bench.run()
    [damaged] = bench.store.versions("b")
    bench.store.note_damage(damaged, ["changed: text"])
    assert bench.reasons() == {"b": "v1 is damaged", "c": "b v1 → v2", "d": "c v1 → v2"}
    assert bench.run() == ["b"], "the same bytes come out again"
    assert bench.run() == []
    assert [version.name for version in bench.store.every("b")] == ["b@v1", "b@v2"]


@pytest.mark.parametrize("text", ["garbage", None])
def test_an_unreadable_manifest_stops_nothing(bench: Bench, text: str | None) -> None:
    bench.run()
    bench.run("b.word=x")
    manifest = bench.folder / "datasets/b/v2/manifest.json"
    manifest.unlink()
    if text:
        manifest.write_text(text)
    bench.store = Store(bench.folder, dict.fromkeys(STAGES, "datasets"))
    assert bench.reasons("b.word=x") == {"b": "v2 is damaged; word a → x", "c": "b v2 → v3", "d": "c v2 → v3"}
    assert bench.run("b.word=x") == ["b"]
    assert bench.run() == []


def test_an_input_of_which_every_version_is_damaged_is_named(bench: Bench) -> None:
    bench.run()
    bench.store.note_damage(bench.store.versions("a")[0], ["changed: text"])
    with pytest.raises(UsageError, match=r"b needs a, which is damaged\.(.|\n)*run \.\.b"):
        bench.run(only=["b"], forced=("b",))


def test_a_damaged_version_hands_no_file_on_but_keeps_its_decisions_while_its_tables_are_whole(tmp_path: Path) -> None:
    seen: list[tuple[str | None, str | None]] = []

    def remember(inputs: Mapping[str, Path], values: Words, out: Path, context: Context) -> dict[str, Any]:
        seen.append(tuple(folder.name if folder else None for folder in (context.previous, context.history)))
        files.write_text(out / "text", "x")
        return {}

    bench = Bench(tmp_path, {"a": stage(), "b": stage("a", run=remember)})
    bench.run("a.word=one")
    bench.run("a.word=two")
    bench.store.note_damage(bench.store.versions("b")[1], ["missing: images/1.png"])
    bench.run("a.word=two")
    bench.store.note_damage(bench.store.versions("b")[1], ["changed: images.parquet"])
    bench.run("a.word=three")
    assert seen == [(None, None), ("v1", "v1"), ("v1", "v2"), ("v1", "v2")]


def test_nothing_is_planned_aloud_while_another_run_is_at_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[object] = []
    runner_ = bench.runner()
    monkeypatch.setattr(bench.reporter, "plan", plans.append)
    with bench.store.lock(), pytest.raises(ArtifactError, match="in use by another run: process"):
        runner_.run(["a"])
    assert plans == []
    runner_.run(["a"])
    with bench.store.lock():
        runner_.run(["a"])
    assert len(plans) == 2, "to find that nothing is to do, one need not be alone"


def test_warnings_say_which_stage_speaks(tmp_path: Path) -> None:
    def warn(inputs: Mapping[str, Path], values: Words, out: Path, context: Context) -> dict[str, Any]:
        context.warn("the light is low")
        context.warn("a: the film is old")
        return write(inputs, values, out, context)

    bench = Bench(tmp_path, {"a": stage(run=warn, preflight=lambda values, context: context.warn("no flash"))})
    bench.run()
    assert bench.reporter.warnings == ["a: no flash", "a: the light is low", "a: the film is old"]


def test_a_stage_that_cannot_be_planned_is_an_error_or_a_reason(tmp_path: Path) -> None:
    def gone(values: Words, context: Context) -> dict[str, str]:
        raise DataError("the folder is gone")

    bench = Bench(tmp_path, {"a": stage(external=gone), "b": stage("a")})
    with pytest.raises(DataError):
        bench.runner().plan(["a", "b"])
    steps = bench.runner().plan(["a", "b"], tolerant=True).steps
    assert steps[0].reasons == ("the folder is gone",)


def test_previous_is_the_newest_of_the_same_params(bench: Bench) -> None:
    bench.run()
    bench.run("a.word=b")
    assert bench.store.resolve("b").manifest["summary"]["previous"] == "v1"
    assert bench.store.resolve("a").manifest["summary"]["previous"] is None


def test_a_failing_stage_keeps_what_was_finished_before_it(tmp_path: Path) -> None:
    def fail(*_: object) -> dict[str, Any]:
        raise DataError("no")

    bench = Bench(tmp_path, {"a": stage(), "b": stage("a", run=fail)})
    with pytest.raises(DataError):
        bench.run()
    assert bench.store.latest("a") is not None
    assert bench.store.latest("b") is None
    bench.stages["b"] = stage("a")
    assert bench.run() == ["b"]


def test_preflight_stops_before_anything_runs(tmp_path: Path) -> None:
    def refuse(values: Words, context: Context) -> None:
        raise UsageError("package missing")

    bench = Bench(tmp_path, {"a": stage(), "b": stage("a", preflight=refuse)})
    with pytest.raises(UsageError):
        bench.run()
    assert bench.store.latest("a") is None


def test_selection_by_names_and_ranges() -> None:
    assert runner.select([], STAGES) == ["a", "b", "c", "d"]
    assert runner.select(["all"], STAGES) == ["a", "b", "c", "d"]
    assert runner.select(["d", "a"], STAGES) == ["a", "d"]
    assert runner.select(["b..c"], STAGES) == ["b", "c"]
    assert runner.select(["..b", "d"], STAGES) == ["a", "b", "d"]
    assert runner.select(["c.."], STAGES) == ["c", "d"]
    with pytest.raises(UsageError, match="is empty"):
        runner.select(["c..a"], STAGES)
    with pytest.raises(UsageError, match="Did you mean"):
        runner.select(["al"], {"alpha": stage()})


def test_circles_and_unknown_inputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(stages: Mapping[str, Stage]) -> None:
        monkeypatch.setattr(runner.plugins, "names", lambda package: list(stages))
        monkeypatch.setattr(runner.plugins, "load", lambda package, name: type("module", (), {"STAGE": stages[name]}))

    pretend({"a": stage("b"), "b": stage("a")})
    with pytest.raises(UsageError, match="circle"):
        runner.discover()
    pretend({"a": stage("nope")})
    with pytest.raises(UsageError, match="is no stage"):
        runner.discover()
