"""Guess a licence by how its text begins, and name it as https://spdx.org/licenses/ does."""

from __future__ import annotations

import re

# The first that fits: texts that quote the name of another licence come before it.
_BEGINNINGS = (
    (r"GNU AFFERO GENERAL PUBLIC LICENSE", "AGPL-3.0"),
    (r"GNU LESSER GENERAL PUBLIC LICENSE Version 3", "LGPL-3.0"),
    (r"GNU LESSER GENERAL PUBLIC LICENSE", "LGPL-2.1"),
    (r"GNU GENERAL PUBLIC LICENSE Version 3", "GPL-3.0"),
    (r"GNU GENERAL PUBLIC LICENSE Version 2", "GPL-2.0"),
    (r"Apache License,? Version 2\.0", "Apache-2.0"),
    (r"Mozilla Public License,? Version 2\.0", "MPL-2.0"),
    (r"BSD 3-Clause", "BSD-3-Clause"),
    (r"BSD 2-Clause", "BSD-2-Clause"),
    (r"The Unlicense|free and unencumbered software released into the public domain", "Unlicense"),
    (r"CC0 1\.0|CC0-1\.0", "CC0-1.0"),
    (r"Open Database License|ODbL", "ODbL-1.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "MIT"),
)
_CREATIVE_COMMONS = re.compile(
    r"Attribution(?P<nc>[- ]?NonCommercial)?(?:(?P<sa>[- ]?ShareAlike)|(?P<nd>[- ]?NoDerivatives))? (?P<version>\d\.\d)"
    r"|\bCC[- ](?P<code>BY(?:-NC)?(?:-SA|-ND)?)[- ](?P<number>\d\.\d)",
    re.IGNORECASE,
)


def guess(text: str) -> str:
    """The identifier of a licence, or the first line of its text (at most 80 characters) where no known one begins like this."""
    start = " ".join(text[:4000].split())
    for beginning, identifier in _BEGINNINGS:
        if re.search(beginning, start[:1000], re.IGNORECASE):
            return identifier
    if found := _CREATIVE_COMMONS.search(start[:1000]):
        if found["code"]:
            return f"CC-{found['code'].upper()}-{found['number']}"
        parts = ["CC-BY", "NC" if found["nc"] else "", "SA" if found["sa"] else "ND" if found["nd"] else "", found["version"]]
        return "-".join(filter(None, parts))
    if "Redistribution and use in source and binary forms" in start:
        return "BSD-3-Clause" if "Neither the name" in start else "BSD-2-Clause"
    first = next((line.strip("#= \t") for line in text.splitlines() if line.strip("#= \t")), "")
    return "".join(letter for letter in first if letter.isprintable())[:80]
