"""Reads the guides: their code blocks, what they name, and their tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUIDES = tuple(sorted((ROOT / "docs/guide").glob("*.md")))

_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<mark>\w+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block; `mark` is what its comment asks a test to do with it."""

    language: str
    text: str
    mark: str | None = None


def blocks(guide: Path) -> list[Block]:
    """Return the code blocks."""
    return [Block(found["language"], found["text"], found["mark"]) for found in _BLOCK.finditer(guide.read_text())]


def marked(mark: str) -> Block:
    """Return the one block of all guides with that mark."""
    [block] = [block for guide in GUIDES for block in blocks(guide) if block.mark == mark]
    return block


def script(guide: str, *headings: str) -> str:
    """Return what the shell is told under these headings, one after the other."""
    page = (ROOT / "docs/guide" / guide).read_text()
    parts = [page.split(f"\n## {heading}\n")[1].split("\n## ")[0] for heading in headings]
    return "".join(found["text"] for part in parts for found in _BLOCK.finditer(part) if found["language"] == "sh")


def prose(guide: Path) -> str:
    """Return the text without its blocks."""
    return _BLOCK.sub("", guide.read_text())


def spans(guide: Path) -> list[str]:
    """Return what stands in backquotes."""
    return _SPAN.findall(prose(guide))


def links(guide: Path) -> list[str]:
    """Return where the links lead."""
    return _LINK.findall(prose(guide))


def anchors(page: Path) -> set[str]:
    """Return the headings as GitHub makes addresses of them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(guide: Path, program: str) -> Iterator[str]:
    """Yield each command of a program, from blocks and backquotes, as far as the shell would read it."""
    scripts = [block.text.replace("\\\n", " ") for block in blocks(guide) if block.language == "sh"]
    for text in [*scripts, *spans(guide)]:
        for line in text.splitlines():
            yield from re.findall(rf"(?:^|[;{{(]\s*|\$\()({program} [^;]*)", line)


def table(guide: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading whose first cell names something, by that name."""
    text = (ROOT / "docs/guide" / guide).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}
