"""`collect SOURCE`: one more place that images come from, without editing params.yaml.

What the command line says takes the place of the section `collect` in params.yaml; the version is made as `run collect` makes it.
"""

from __future__ import annotations

import inspect
import json
import os
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from pipeline import params, plugins
from pipeline.collecting import INNER, PACKAGE, resolve
from pipeline.commands import Options, Project
from pipeline.console import Console
from pipeline.errors import UsageError, did_you_mean
from pipeline.params_yaml import parse_yaml
from pipeline.sources import IS_PATH, kept, local_path
from pipeline.stage import JSON, Context, StageParams
from pipeline.store import Store

_UNITS = ("_s", "_minutes")
"""May be left out on the command line: `--every 0.5` is `every_s`."""


def collect(options: Options, console: Console) -> int:
    if options.source_help:
        return _help(options, console)
    if not options.source:
        raise UsageError("`collect` needs a source.", "`python -m pipeline collect --help` lists them.")
    if inner := [word for word in options.overrides if word.startswith("collect.")]:
        raise UsageError(
            f"`collect` makes the section `collect` itself, so '{inner[0]}' has no place there.",
            "Use its options (`collect --help`, `collect SOURCE --help`), or `run collect` with settings.",
        )
    project = Project.open(options, console)
    settings = params.load(options.params or Path(params.FILE_NAME), project.stages, options.overrides)
    source = _from_here(options.source, settings.base)
    kind, _ = resolve(source, Context(base=settings.base, cache=project.store.cache))
    section = _section(options, source, _options_of(kind, options.source_options, settings.base), project.store)
    (outcome,) = project.runner(options, console, {"collect": section}).run(["collect"], ["collect"] if options.anew else [])
    version, summary = outcome.version, outcome.version.manifest["summary"]
    if console.as_json:
        console.json({"version": version.number, "path": str(version.path), "reused": outcome.reused, "summary": summary})
        return 0
    console.say(f"{version.name}{' is up to date' if outcome.reused else ''}: {version.manifest['headline']}", "bold")
    for what, count in summary["ledger"].items():
        console.say(f"  {count:,} × {what}", "dim")
    console.say(f"  {version.path / 'files'}")
    console.say("\nTo go on with these images, make this the section `collect` of params.yaml, then `run all`:\n")
    console.say(_as_yaml(section))
    return 0


def _from_here(source: str, base: Path) -> str:
    """A path on the command line starts where the user is; one in params.yaml where that lies."""
    name, colon, location = source.partition(":")
    named = name in plugins.names(PACKAGE)
    place = location if named else source
    if not place or not local_path(place, Context()).exists():
        return source
    return (name + colon if named else "") + _path_from_here(place, base)


def _path_from_here(text: str, base: Path) -> str:
    """As params.yaml in the folder `base` has to say it; a URL as it is."""
    return text if "://" in text or base.resolve() == Path.cwd() else os.fspath(local_path(text, Context()))


def _section(options: Options, source: str, chosen: JSON, store: Store) -> JSON:
    """The section `collect`: one source, or those of the last version and one more."""
    one = {"source": source, "options": chosen, "license": options.license}
    extra = {"name": options.name or "", "format": options.label_format}
    if not options.append:
        plain = not options.name and options.label_format == "auto"
        return _said(one) if plain else {"sources": [_said({**one, **extra})]}
    last = store.latest("collect")
    if last is None:
        raise UsageError("--append: there is no version of collect yet.", "Leave it out, and the first version is made.")
    earlier = last.manifest["summary"].get("sources")
    if not earlier:
        raise UsageError(
            f"--append: {last.name} was made by an earlier release.", "Run `python -m pipeline run collect --force` first."
        )
    sources = [{"source": f"kept:{kept.location_of(each)}", "name": each["name"], "format": each["format"]} for each in earlier]
    same = [n for n, each in enumerate(earlier) if (each["query"], each["options"]) == (source, chosen)]
    if same and not options.name:  # looked at again, in its place
        sources[same[0]] = {**one, "name": earlier[same[0]]["name"], "format": options.label_format}
    else:
        sources.append({**one, **extra})
    return {"sources": [_said(each) for each in sources]}


def _said(section: JSON) -> JSON:
    """Without what says nothing."""
    return {key: value for key, value in section.items() if value not in ("", {}, "auto")}


def _as_yaml(section: JSON) -> str:
    text: str = yaml.safe_dump({"collect": section}, sort_keys=False, allow_unicode=True, width=120)
    return text.rstrip()


# ---- options of the source, as words


def _options_of(kind: str, words: Sequence[str], base: Path) -> JSON:
    """`--classes dog,cat --limit 200` as the source's options in a params.yaml in the folder `base`.

    Raises:
        UsageError: there is no such option, or a value is missing.
    """
    fields = _fields(kind)
    chosen: JSON = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not flag.startswith("--"):
            raise UsageError(f"`collect` does not take '{word}'.", "It takes one source at a time; --append adds a second one.")
        key = _key(flag, fields)
        if key is None:
            hint = did_you_mean(flag, [_flag(name) for name in fields], _see(kind))
            raise UsageError(f"The source '{kind}' has no option '{flag}'.", hint)
        if bool in _kinds(fields[key]) and not equals:
            chosen[key] = rest.pop(0) == "true" if rest[:1] in (["true"], ["false"]) else True
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"{flag} needs a value.", _see(kind))
            value = rest.pop(0)
        is_path = IS_PATH in fields[key].metadata
        chosen[key] = _path_from_here(value, base) if is_path else _value(value, fields[key], flag)
    return chosen


def _see(kind: str) -> str:
    return f"See `python -m pipeline collect {kind} --help`."


def _fields(kind: str) -> dict[str, FieldInfo]:
    model: type[StageParams] = plugins.load(PACKAGE, kind).Options
    return model.model_fields


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _key(flag: str, fields: dict[str, FieldInfo]) -> str | None:
    key = flag.removeprefix("--").replace("-", "_")
    return next((name for name in (key, *(key + unit for unit in _UNITS)) if name in fields), None)


def _kinds(field: FieldInfo) -> set[Any]:
    """The types that a value may be of: `list[str] | None` gives list and None."""
    return set(_plain_types(field.annotation))


def _plain_types(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _plain_types(inner)
    elif origin is Literal:
        yield from (type(value) for value in get_args(annotation))
    else:
        yield origin or annotation


def _value(text: str, field: FieldInfo, flag: str) -> Any:
    """A word as the option's type: lists by commas, text as it is, the rest as YAML has it."""
    kinds = _kinds(field)
    if list in kinds and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if kinds <= {str, types.NoneType}:
        return text
    return parse_yaml(text, f"command line: {flag}")


# ---- help


def _help(options: Options, console: Console) -> int:
    if options.source is None:
        console.say(options.usage())
        console.say("sources:")
        console.table(("source", ""), [(name, _first_line(name)) for name in _for_typing()])
        console.say("\n`python -m pipeline collect SOURCE --help` tells the options of one.")
        return 0
    kind, _ = resolve(options.source, Context())
    console.say(inspect.getdoc(plugins.load(PACKAGE, kind)) or "")
    rows = [(_flag(name), _default(field), field.description or "") for name, field in _fields(kind).items()]
    console.say("")
    if rows:
        console.table(("option", "default", ""), rows)
    else:
        console.say(f"The source '{kind}' has no options.")
    return 0


def _for_typing() -> list[str]:
    return [name for name in plugins.names(PACKAGE) if name not in INNER]


def _first_line(name: str) -> str:
    return (inspect.getdoc(plugins.load(PACKAGE, name)) or "").split("\n")[0]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return json.dumps(default) if default not in ("", None, [], {}) else ""
