"""A document of a few kinds of blocks, written as Markdown and as one self-contained page of HTML.

Text in blocks is untrusted: each writer escapes all of it, so no other module has to. The page asks for nothing from
outside; its content policy forbids scripts and every source but what is inlined.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from instar.contracts.text import html, markdown, terminal


@dataclass(frozen=True)
class Heading:
    """A section's title; level 1 is the document's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `strong` for the few sentences that must be read."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; cells that begin with a digit or a sign are set to the right in HTML."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Code:
    """Lines to be shown as they are, such as a command or a diff."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG with what can be seen on it in words, and its file's name beside the Markdown."""

    file: str
    png: bytes
    caption: str


Block = Heading | Paragraph | Bullets | Table | Code | Picture


def to_markdown(blocks: Sequence[Block]) -> str:
    """Write the blocks as GitHub's Markdown; pictures are links to files beside it."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {markdown(block.text)}"
        case Paragraph():
            return f"**{markdown(block.text)}**" if block.strong else markdown(block.text)
        case Bullets():
            return "\n".join(f"- {markdown(item)}" for item in block.items)
        case Table():
            lines = [block.head, ["---"] * len(block.head), *block.rows]
            return "\n".join(f"| {' | '.join(markdown(cell) if line is not lines[1] else cell for cell in line)} |"
                             for line in lines)  # fmt: skip
        case Code():
            text = terminal(block.text)
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case Picture():
            return f"![{markdown(block.caption)}]({block.file})\n\n*{markdown(block.caption)}*"


def to_html(blocks: Sequence[Block], title: str) -> str:
    """Write the blocks as one page that asks for nothing from outside; light or dark as the reader's system is."""
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html(title), style=_STYLE, body=body)


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{html(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p{' class=strong' if block.strong else ''}>{html(block.text)}</p>"
        case Bullets():
            return f"<ul>{''.join(f'<li>{html(item)}</li>' for item in block.items)}</ul>"
        case Table():
            head = "".join(f"<th>{html(cell)}</th>" for cell in block.head)
            rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>\n" for row in block.rows)
            return f"<div class=wide><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
        case Code():
            return f"<pre>{escape(terminal(block.text))}</pre>"
        case Picture():
            data = base64.b64encode(block.png).decode("ascii")
            caption = html(block.caption)
            return (
                f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption>'
                "</figure>"
            )


def _cell(text: str) -> str:
    right = " class=n" if re.match(r"[-+]?\d[\d.,e%]*( |$)", text) else ""
    return f"<td{right}>{html(text)}</td>"


_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --ground: #fff; --tint: #f4f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #9aa4af; --line: #3a424b; --ground: #15191e; --tint: #1f252c } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1, h2, h3 { line-height: 1.25 } h2 { margin-top: 2.4rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem }
.strong { font-size: 1.15rem; font-weight: 600 } .wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; min-width: 2.5rem }
th { color: var(--soft); font-weight: 600; overflow-wrap: normal } td.n { white-space: nowrap }
pre { background: var(--tint); border-radius: 4px; font: .85rem/1.45 ui-monospace, monospace; padding: .7rem;
  overflow-x: auto }
figure { margin: 1.2rem 0 } img { max-width: 100%; background: #fff; border-radius: 6px; border: 1px solid var(--line) }
figcaption { color: var(--soft); font-size: .88rem }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""
