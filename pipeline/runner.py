"""Which stages to run, why, and in what order; then running them.

A stage's recipe is its name and version, all its params, the digests of its inputs, the fingerprints of what it reads from
outside, and the versions of the libraries that change its result. A published version of the same recipe is reused. Digests, not
version numbers, connect the stages: an upstream stage that is run again and yields the same bytes makes nothing below it run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pipeline import fingerprint, machine, plugins, reasons
from pipeline.errors import PipelineError, UsageError, did_you_mean
from pipeline.params import Params
from pipeline.stage import SAME_WORK, Advance, Context, Stage
from pipeline.store import BENCHMARK, Store, Version

JSON = dict[str, Any]

STAGES_PACKAGE = "pipeline.stages"


@dataclass(frozen=True)
class Step:
    """One line of the plan.

    Attributes:
        run: whether the stage will run; False: `version` is reused.
        reasons: why it runs; for a stage that waits for its inputs, what they will be.
        version: the version that is reused, or None.
        next_number: the number a new version will get.
    """

    stage: str
    run: bool
    reasons: tuple[str, ...]
    version: Version | None
    next_number: int


@dataclass(frozen=True)
class Plan:
    """The selected stages in order, and the versions of the stages above them that were not selected but are read."""

    steps: tuple[Step, ...]
    above: Mapping[str, Version]


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    stage: str
    version: Version
    reused: bool
    seconds: float


class Reporter(Protocol):
    """How the runner speaks to whoever started it."""

    def plan(self, steps: Sequence[Step]) -> None: ...
    def started(self, step: Step) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


def discover() -> dict[str, Stage]:
    """Every stage by name, inputs before the stages that read them.

    Raises:
        UsageError: a stage names an input that does not exist, or inputs form a circle.
    """
    stages: dict[str, Stage] = {name: plugins.load(STAGES_PACKAGE, name).STAGE for name in plugins.names(STAGES_PACKAGE)}
    ordered: dict[str, Stage] = {}

    def place(name: str, below: tuple[str, ...]) -> None:
        if name in ordered:
            return
        if name not in stages:
            raise UsageError(f"Stage '{below[-1]}' reads '{name}', which is no stage.", did_you_mean(name, stages))
        if name in below:
            raise UsageError(f"Stages read each other in a circle: {' → '.join((*below, name))}.")
        for needed in stages[name].inputs:
            place(needed, (*below, name))
        ordered[name] = stages[name]

    for name in sorted(stages):
        place(name, ())
    return ordered


def select(words: Sequence[str], stages: Mapping[str, Stage]) -> list[str]:
    """Stage names from what a user typed: `all`, names, and ranges `a..b`, `..b`, `a..`; in pipeline order."""
    order = list(stages)
    chosen: set[str] = set()

    def position(name: str, default: int) -> int:
        if not name:
            return default
        if name not in stages:
            raise UsageError(f"Unknown stage '{name}'.", did_you_mean(name, [*order, "all"]))
        return order.index(name)

    for word in words or ["all"]:
        if word == "all":
            chosen.update(order)
        elif ".." in word:
            start, _, end = word.partition("..")
            first, last = position(start, 0), position(end, len(order) - 1)
            if first > last:
                raise UsageError(f"The range '{word}' is empty: {start} comes after {end}.", f"The order is {', '.join(order)}.")
            chosen.update(order[first : last + 1])
        else:
            chosen.add(order[position(word, 0)])
    return [name for name in order if name in chosen]


class Runner:
    """Plans and runs the stages of one workspace with one set of params."""

    def __init__(self, stages: Mapping[str, Stage], params: Params, store: Store, reporter: Reporter) -> None:
        self._stages = stages
        self._params = params
        self._store = store
        self._reporter = reporter
        self._lineages: dict[Version, dict[str, set[str]]] = {}
        self._context = Context(
            base=params.base,
            cache=store.cache,
            device=params.device,
            workers=machine.usable_cores() if params.workers == "auto" else params.workers,
            benchmarks=tuple(store.versions(BENCHMARK)),
            progress=reporter.progress,
            warn=reporter.warn,
        )

    def plan(self, selected: Sequence[str], forced: Iterable[str] = (), tolerant: bool = False) -> Plan:
        """What `run` would do with `selected`, in order; nothing is changed.

        A stage whose inputs will run is planned to run as well; it is still reused when they turn out to have the same bytes.

        Args:
            tolerant: a stage that cannot be planned (its source is gone, say) stands in the plan with that as the reason.
        """
        forced = set(forced)
        self._lineages.clear()
        steps: list[Step] = []
        renewed: dict[str, Step] = {}
        versions: dict[str, Version] = {}
        for name in self._with_inputs(selected):
            if name not in selected:
                version = self._given(name, versions)
            else:
                try:
                    step = self._step(name, versions, renewed, name in forced)
                except PipelineError as error:
                    if not tolerant:
                        raise
                    step = Step(name, True, (error.message,), None, self._store.next_number(name))
                steps.append(step)
                version = step.version
                if step.run:
                    renewed[name] = step
            if version is not None:
                versions[name] = version
        return Plan(tuple(steps), {name: version for name, version in versions.items() if name not in selected})

    def _with_inputs(self, selected: Sequence[str]) -> list[str]:
        """The selected stages and everything above them, in order."""
        needed: set[str] = set()
        pending = list(selected)
        while pending:
            name = pending.pop()
            if name not in needed:
                needed.add(name)
                pending += self._stages[name].inputs
        return [name for name in self._stages if name in needed]

    def _step(self, name: str, versions: Mapping[str, Version], renewed: Mapping[str, Step], forced: bool) -> Step:
        inputs = self._stages[name].inputs
        missing = [source for source in inputs if source not in renewed and source not in versions]
        if missing:
            none = "which is damaged" if self._store.every(missing[0]) else "which has no version yet"
            raise UsageError(f"{name} needs {missing[0]}, {none}.", f"Run `python -m pipeline run ..{name}`.")
        self._require_one_lineage(name, versions)
        recipe = self._recipe(name, versions)
        waiting = {source: renewed[source].next_number for source in inputs if source in renewed}
        key = fingerprint.of_value(recipe)
        found = None if waiting or forced else self._store.find(name, key)
        number = self._store.next_number(name)
        if found is not None:
            return Step(name, False, (), found, number)
        why = ["forced"] if forced else self._why(name, recipe, key, waiting)
        return Step(name, True, tuple(why), None, number)

    def _why(self, name: str, recipe: JSON, key: str, waiting: Mapping[str, int]) -> list[str]:
        """Why a stage has to run, as phrases."""
        if same := [version for version in self._store.readable(name) if version.key == key]:
            return [f"{same[-1].label} is damaged"]
        latest = self._store.latest(name)
        # Of an unreadable version nobody can say what it was, but the newest was probably meant.
        newest = self._store.every(name)[-1:]
        lost = [f"{version.label} is damaged" for version in newest if version.fault or latest is None]
        if latest is None:
            return lost or ["no version yet"]
        return [*lost, *reasons.why(recipe, latest.manifest["recipe"], waiting)] or ["the latest version is not of this recipe"]

    def _given(self, name: str, versions: Mapping[str, Version]) -> Version | None:
        """The version of a stage that was not selected but is read: the one that the params mean, else the latest."""
        if all(source in versions for source in self._stages[name].inputs):
            try:
                found = self._store.find(name, fingerprint.of_value(self._recipe(name, versions)))
            except PipelineError:
                found = None  # what the stage once read from outside may be gone, and nobody asked to run it
            if found is not None:
                return found
        latest = self._store.latest(name)
        if latest is not None:
            self._reporter.warn(f"{latest.name} is used as it is, though its params or inputs have changed since.")
        return latest

    def _recipe(self, name: str, versions: Mapping[str, Version]) -> JSON:
        """Everything that determines a stage's result; an input that has no version yet has the digest None."""
        stage = self._stages[name]
        params = self._params.stages[name]
        return {
            "stage": name,
            "stage_version": stage.version,
            "params": self._params.values[name],
            "inputs": {source: _identity(versions.get(source), stage) for source in stage.inputs},
            "external": stage.external(params, self._context) if stage.external else {},
            "libraries": {library: machine.version_of(library) for library in stage.libraries},
        }

    def run(self, selected: Sequence[str], forced: Iterable[str] = ()) -> list[Outcome]:
        """Run what is not up to date. Each stage that ends well is published at once, whatever happens to those after it."""
        forced = set(forced)
        plan = self.plan(selected, forced)
        if not any(step.run for step in plan.steps):
            self._reporter.plan(plan.steps)
            return [Outcome(step.stage, step.version, True, 0.0) for step in plan.steps if step.version]
        self._store.require_free()  # before a plan is shown that would not be carried out
        self._reporter.plan(plan.steps)
        for step in plan.steps:
            preflight = self._stages[step.stage].preflight
            if step.run and preflight is not None:
                preflight(self._params.stages[step.stage], self._context_of(step.stage))
        with self._store.lock():
            return self._run_locked(plan, forced)

    def _context_of(self, name: str) -> Context:
        """The context, with warnings that say which stage speaks."""
        return replace(self._context, warn=lambda text: self._reporter.warn(f"{name}: {text.removeprefix(f'{name}: ')}"))

    def _run_locked(self, plan: Plan, forced: set[str]) -> list[Outcome]:
        versions = dict(plan.above)
        outcomes: list[Outcome] = []
        for step in plan.steps:
            self._require_one_lineage(step.stage, versions)
            recipe = self._recipe(step.stage, versions)
            key = fingerprint.of_value(recipe)
            # Looked up again: inputs may have come out the same as before, and another run may have published meanwhile.
            found = None if step.stage in forced else self._store.find(step.stage, key)
            if found is None:
                self._reporter.started(step)
                outcome = self._run_stage(step.stage, recipe, key, versions, step.stage in forced)
            else:
                outcome = Outcome(step.stage, found, True, 0.0)
            self._reporter.finished(outcome)
            versions[step.stage] = outcome.version
            self._lineages.clear()  # a new version may be the twin of another
            outcomes.append(outcome)
        return outcomes

    def _run_stage(self, name: str, recipe: JSON, key: str, versions: Mapping[str, Version], forced: bool) -> Outcome:
        stage = self._stages[name]
        inputs = {source: versions[source] for source in stage.inputs}
        history = self._like(recipe, [version for version in self._store.readable(name) if self._store.has_its_tables(version)])
        previous = None if forced else self._like(recipe, self._store.versions(name), stage.takes_over)
        context = replace(
            self._context_of(name), previous=previous.path if previous else None, history=history.path if history else None
        )
        started = time.gmtime()
        clock = time.monotonic()
        work = self._store.work_folder(name, key)
        folders = {source: version.path for source, version in inputs.items()}
        summary = stage.run(folders, self._params.stages[name], work, context)
        manifest = {
            "key": key,
            "recipe": {
                **recipe,
                "inputs": {source: {"version": v.number, "digest": recipe["inputs"][source]} for source, v in inputs.items()},
            },
            "headline": stage.headline(summary),
            "summary": summary,
            "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", started),
            "seconds": round(time.monotonic() - clock + summary.get("earlier_s", 0.0), 3),
            "machine": machine.describe(),
            "git_commit": machine.git_commit(self._params.base),
        }
        linked_from = [*inputs.values(), *([previous] if previous else [])]
        version = self._store.publish(name, work, manifest, linked_from)
        return Outcome(name, version, False, version.manifest["seconds"])

    def _require_one_lineage(self, name: str, versions: Mapping[str, Version]) -> None:
        """Refuse inputs that descend from different versions of one stage: a model would be measured on images it has seen."""
        descent: dict[str, tuple[str, set[str]]] = {}
        for source in self._stages[name].inputs:
            if source not in versions:
                continue
            for stage, digests in self._lineage(versions[source]).items():
                other, known = descent.setdefault(stage, (source, set(digests)))
                if known.isdisjoint(digests):
                    raise UsageError(
                        f"{name} would mix two versions of {stage}: {versions[source].name} and {versions[other].name} do not "
                        "come from the same one.",
                        f"Bring all of it up to date: `python -m pipeline run {stage}..{name}`.",
                    )
                known &= digests

    def _lineage(self, version: Version) -> dict[str, set[str]]:
        """Stage → digests, for a version and all that it was made from.

        More than one where the same bytes were made from several inputs: after a cut-off, all of them lead to this version.
        """
        if version in self._lineages:
            return self._lineages[version]
        found = {version.stage: {version.digest}}
        for twin in self._store.readable(version.stage):
            if twin.digest != version.digest:
                continue
            for stage, entry in twin.manifest["recipe"]["inputs"].items():
                found.setdefault(stage, set()).add(entry["digest"].partition(" ")[0])
                for above in self._store.readable(stage):
                    if above.number == entry["version"]:
                        for ancestor, digests in self._lineage(above).items():
                            found.setdefault(ancestor, set()).update(digests)
        self._lineages[version] = found
        return found

    def _like(self, recipe: JSON, versions: Sequence[Version], parts: Sequence[str] = SAME_WORK) -> Version | None:
        """The newest of `versions` made by the same code, params and libraries, from whatever inputs."""
        for version in reversed(versions):
            old = version.manifest["recipe"]
            if all(old.get(part) == recipe[part] for part in parts):
                return version
        return None


def _identity(version: Version | None, stage: Stage) -> str | None:
    """By what an input enters the recipe: its content, and for a stage that reads manifests also how it came about."""
    if version is None:
        return None
    return f"{version.digest} {version.key}" if stage.reads_manifests else version.digest
