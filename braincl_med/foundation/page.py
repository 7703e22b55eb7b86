"""A page of headings, paragraphs, lists and tables, as Markdown and as self-contained HTML."""

from dataclasses import dataclass
from html import escape

STYLE = """
  body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
  th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d0d7de; }
  td { overflow-wrap: anywhere; }
  @page { size: A4; margin: 16mm; }
  @media print { body { margin: 0; max-width: none; padding: 0; font-size: 10pt; } tr, li { break-inside: avoid; }
    h2 { break-after: avoid; } }
"""


@dataclass(frozen=True)
class Table:
    """Rows of texts under a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]


Block = str | Table | Points


@dataclass(frozen=True)
class Page:
    """A title, and sections of a heading and blocks."""

    title: str
    sections: tuple[tuple[str, tuple[Block, ...]], ...]


def markdown(page: Page) -> str:
    """The page in GitHub's Markdown; nothing that it says is taken for markup."""
    parts = [f"# {_plain(page.title)}"]
    for heading, blocks in page.sections:
        parts.append(f"## {_plain(heading)}")
        parts += [_block_in_markdown(block) for block in blocks]
    return "\n\n".join(parts) + "\n"


def html(page: Page) -> str:
    """The page as one file that loads nothing."""
    body = [f"<h1>{escape(page.title)}</h1>"]
    for heading, blocks in page.sections:
        body.append(f"<h2>{escape(heading)}</h2>")
        body += [_block_in_html(block) for block in blocks]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _block_in_markdown(block: Block) -> str:
    if isinstance(block, str):
        return _plain(block)
    if isinstance(block, Points):
        return "\n".join(f"- {_plain(item)}" for item in block.items)
    lines = [block.head, tuple("---" for _ in block.head), *block.rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _block_in_html(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    if isinstance(block, Points):
        return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in block.items) + "\n</ul>"
    head = "".join(f"<th>{escape(cell)}</th>" for cell in block.head)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in block.rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _plain(text: str) -> str:
    """A text without line ends, in which nothing opens a tag, a link, a cell or an emphasis."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c for c in line)
