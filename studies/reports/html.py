"""Pieces of a page: every text is escaped here, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from studies.common.text import visible

HERE = Path(__file__).parent


def escaped(text: object) -> str:
    """A text for HTML: secrets hidden, control characters visible, markup as text."""
    cleaned = visible(str(text)).replace("\0", "").encode("utf-8", "backslashreplace").decode()
    return html.escape(cleaned, quote=True)


def section(heading: str, *parts: str, lead: str = "", name: str = "") -> str:
    said = f'<p class="lead">{escaped(lead)}</p>' if lead else ""
    kind = f' class="{name}"' if name else ""
    return f"<section{kind}><h2>{escaped(heading)}</h2>{said}{''.join(parts)}</section>"


def chart(kind: str, label: str, of: int | None = None) -> str:
    """Where charts.js draws a chart."""
    which = f' data-of="{of}"' if of is not None else ""
    return f'<figure data-chart="{kind}" data-label="{escaped(label)}"{which}></figure>'


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    classes: Sequence[str] = (),
    name: str = "",
    marked: int | None = None,
) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        classes: the class of each column: number, long, code, key.
        name: its id.
        marked: position of the row that is the best.
    """
    kinds = [f' class="{kind}"' if kind else "" for kind in classes] or [""] * len(heads)
    head = "".join(f"<th{kind}>{escaped(text)}</th>" for text, kind in zip(heads, kinds, strict=True))
    body = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{escaped(text)}</td>" for text, kind in zip(row, kinds, strict=True))
        kind = ' class="best"' if index == marked else ""
        body.append(f"<tr{kind}>{cells}</tr>")
    known = f' id="{name}"' if name else ""
    return (
        f'<div class="scroll"><table{known}><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def figures(items: Iterable[tuple[str, str, str]]) -> str:
    """The row of key figures: (name, value, what to know of it)."""
    parts = []
    for name, value, note in items:
        small = f"<small>{escaped(note)}</small>" if note else ""
        parts.append(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}{small}</dd></div>")
    return f'<section class="bare"><dl class="figures">{"".join(parts)}</dl></section>'


def facts(items: Iterable[tuple[str, object]]) -> str:
    parts = [f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in items if value not in ("", None)]
    return f'<dl class="facts">{"".join(parts)}</dl>' if parts else ""


def command(text: str) -> str:
    button = '<button type="button" class="copy" hidden>Copy</button>'
    return f'<div class="command"><pre>{escaped(text)}</pre>{button}</div>'


def bars(items: Iterable[tuple[str, float]]) -> str:
    """Horizontal bars of shares, 0 to 1, with their percentages."""
    rows = []
    for name, share in items:
        width = max(0.0, min(1.0, share)) * 100
        bar = f'<svg aria-hidden="true"><rect width="{width:.2f}%" height="14" rx="2"></rect></svg>'
        rows.append(f'<span>{escaped(name)}</span>{bar}<span class="number">{width:.1f}%</span>')
    return f'<div class="bars">{"".join(rows)}</div>'


def document(title: str, kind: str, body: Iterable[str], data: dict[str, Any], footer: str) -> str:
    """A self-contained page, which loads nothing and runs no script but charts.js."""
    script = (HERE / "charts.js").read_text(encoding="utf-8")
    style = (HERE / "page.css").read_text(encoding="utf-8")
    # What is in a script element ends at </script, whatever the JSON around it.
    stored = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for sign in "<>&":
        stored = stored.replace(sign, f"\\u{ord(sign):04x}")
    policy = f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escaped(title)}</title>",
            f"<style>{style}</style></head><body><main>",
            f'<header><p class="kind">{escaped(kind)}</p><h1>{escaped(title)}</h1></header>',
            "<noscript><p>The charts of this page need JavaScript; its tables do not.</p></noscript>",
            *body,
            f"<footer>{escaped(footer)}</footer></main>",
            f'<script type="application/json" id="data">{stored}</script>',
            f"<script>{script}</script></body></html>",
            "",
        ]
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
