"""The findings and their pictures as one HTML page that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from pipeline.health.findings import Finding, counts

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 0.3rem; } img { max-width: 100%; border: 1px solid #e9edf1; }
code { font-size: 0.9em; } p, ul { margin: 0.3rem 0; }
.error { color: #c4432b; } .warning { color: #a35a00; } .info { color: #66737f; }
ul { font-size: 0.9em; overflow-wrap: anywhere; }
"""


def page(findings: Sequence[Finding], title: str, summary: str) -> str:
    """The whole page; `title` and all that findings say is text, never markup."""
    number = ", ".join(f"{count} {severity}" for severity, count in counts(findings).items())
    parts = "\n".join(_section(found) for found in findings)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>\n'
        f"<h1>{escape(title)}</h1>\n<p>{escape(summary)}. Findings: {number}.</p>\n{parts}\n</html>\n"
    )


def _section(found: Finding) -> str:
    lines = [f'<h2><span class="{found.severity}">{found.severity}</span> {escape(found.title)} ({found.count:,})</h2>']
    lines.append(f"<p><code>{found.code}</code> {escape(found.detail)}</p>")
    if found.severity != "info":
        lines.append(f"<p>→ {escape(found.remedy)}</p>")
    if found.picture:
        lines.append(f'<p><img src="{quote(found.picture)}" alt="{escape(found.title)}"></p>')
    elif found.items:
        items = "".join(f"<li>{escape(item.told())}</li>" for item in found.items)
        lines.append(f"<ul>{items}</ul>")
    return "\n".join(lines)
