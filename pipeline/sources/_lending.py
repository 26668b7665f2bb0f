"""What makes the official libraries of services behave for the time of a call: other parts, other settings, and no log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def exchanged(owner: Any, **parts: Any) -> Iterator[None]:
    """Other attributes for a module or an object."""
    before = {name: getattr(owner, name) for name in parts}
    vars(owner).update(parts)
    try:
        yield
    finally:
        vars(owner).update(before)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Further variables of the environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def muted(*names: str) -> Iterator[None]:
    """Nothing from these loggers: what they say may hold addresses with a key or a signature."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
