"""Plain text, as in the comments of the header, and a little Markdown, as roff for man(7)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Callable

# What is set in bold: names of the interface and of libpq, and what stands between backticks.
NAME = re.compile(r"`(?P<quoted>[^`]+)`|\b(?P<call>pool_\w+)\(\)|\b(?P<name>(?:POOL|PQ|pool)_?[A-Za-z_]\w*)\b")
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
STRONG = re.compile(r"\*\*(.+?)\*\*")


def escape(text: str) -> str:
    """Text that roff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    return "".join(character if ord(character) < 128 else f"\\[u{ord(character):04X}]" for character in text)


class Writer:
    """Lines of a page. `reference` gives the page of a function, "" for none."""

    def __init__(self, reference: Callable[[str], str]) -> None:
        self.lines: list[str] = []
        self.reference = reference

    def macro(self, name: str, *arguments: str) -> None:
        quoted = ['"' + escape(argument).replace('"', "\\(dq") + '"' for argument in arguments]
        self.lines.append(" ".join([f".{name}", *quoted]))

    def inline(self, text: str) -> str:
        """One paragraph; names in bold, functions with the section of their page."""
        text = STRONG.sub(r"\1", LINK.sub(r"\1", text))
        result, end = "", 0
        for found in NAME.finditer(text):
            result += escape(text[end : found.start()]) + self._name(found)
            end = found.end()
        return result + escape(text[end:])

    def _name(self, found: re.Match[str]) -> str:
        quoted, call, name = found["quoted"], found["call"], found["name"]
        if call and self.reference(call):
            return f"\\fB{escape(call)}\\fR(3)"
        return f"\\fB{escape(quoted or (call and call + '()') or name)}\\fR"

    def text(self, paragraph: str) -> None:
        """Lines of running text; none begins as a command would."""
        for line in textwrap.wrap(self.inline(" ".join(paragraph.split())), 110, break_on_hyphens=False):
            self.lines.append(f"\\&{line}" if line[0] in ".'" else line)

    def paragraph(self, paragraph: str) -> None:
        self.lines.append(".PP")
        self.text(paragraph)

    def tagged(self, tag: str, paragraph: str) -> None:
        self.lines += [".TP", tag]
        self.text(paragraph or "\u00a0")

    def preformatted(self, text: str) -> None:
        self.lines += [".PP", ".in +4n", ".nf"]
        self.lines += [f"\\&{escape(line)}" if line else "" for line in text.split("\n")]
        self.lines += [".fi", ".in"]

    def comment(self, comment: str) -> None:
        """A comment of the header: paragraphs, and indented lists or lines to be left as they are."""
        for indented, lines in _blocks(comment):
            block = textwrap.dedent("\n".join(lines))
            if not indented:
                self.paragraph(block)
            elif re.search(r"^ ", block, re.M):
                for term, text in re.findall(r"^(\S+)(.*(?:\n .*)*)", block, re.M):
                    self.tagged(f"\\fB{escape(term)}\\fR", text)
                self.lines.append(".PP")
            else:
                self.preformatted(block)

    def bullets(self, markdown: str) -> None:
        for item in re.findall(r"^- (.*(?:\n  .*)*)", markdown, re.M):
            self.lines.append('.IP "\\(bu" 2')
            self.text(item)


def _blocks(comment: str) -> Iterator[tuple[bool, list[str]]]:
    """Runs of lines that are indented or not; an empty line ends one."""
    block: list[str] = []
    for line in [*comment.split("\n"), ""]:
        if block and (not line or line.startswith(" ") != block[0].startswith(" ")):
            yield block[0].startswith(" "), block
            block = []
        if line:
            block.append(line)
