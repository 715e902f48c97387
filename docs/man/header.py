"""include/dbpool.h as data: what it declares, each with the comment that describes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A comment, or a line of code with what follows it up to an empty line.
PIECE = re.compile(r"/\*(?P<comment>.*?)\*/[ ]*\n|(?P<code>[^\s/][^\n]*\n(?:[^\n]+\n)*)", re.S)
HEADING = re.compile(r"^ ?-{20,} (.*)$", re.M)
TRAILING = re.compile(r"\s*/\*\s*(.*?)\s*\*/", re.S)
FUNCTION = re.compile(r"\b(pool_\w+)\(")


@dataclass(frozen=True)
class Member:
    """A member of a struct, a macro, or (without a declaration) a heading between members."""

    name: str
    declaration: str
    comment: str


@dataclass(frozen=True)
class Item:
    """What stands between two empty lines: a declaration or a group of macros, and the comment above it."""

    section: str
    comment: str
    code: str

    @property
    def functions(self) -> list[str]:
        if self.code.startswith(("#", "typedef")):
            return []
        return FUNCTION.findall(self.code)

    @property
    def prototype(self) -> str:
        return TRAILING.sub("", self.code).strip()

    @property
    def type_name(self) -> str:
        """The name that a typedef gives."""
        found = re.search(r"\(\*(\w+)\)|(\w+);\s*$", self.prototype) if self.code.startswith("typedef") else None
        return (found.group(1) or found.group(2)) if found else ""

    @property
    def members(self) -> list[Member]:
        return list(_macros(self.code) if self.code.startswith("#") else _struct_members(self.code))

    @property
    def names(self) -> list[str]:
        """All names of the interface that this declares."""
        if self.code.startswith("#"):
            return [member.name for member in self.members]
        return self.functions or [self.type_name]


@dataclass(frozen=True)
class Header:
    version: str
    rules: str
    introductions: dict[str, str]
    items: list[Item]

    def item(self, name: str) -> Item:
        for item in self.items:
            if name in item.names:
                return item
        raise KeyError(f"the header declares no {name}")

    @property
    def errors(self) -> dict[str, Member]:
        return {member.name: member for member in self.item("POOL_EINVAL").members}


def plain(comment: str) -> str:
    """The text of a comment, without what makes it one."""
    first, *others = comment.split("\n")
    lines = [first.strip(), *(re.sub(r"^ \* ?", "", line).rstrip() for line in others)]
    return "\n".join(lines).strip("\n")


def one_line(comment: str) -> str:
    return " ".join(comment.split())


def _macros(code: str) -> Iterator[Member]:
    pattern = r"#define (\w+)(\(\w+\))?[ \\\n]+((?:[^\n/]|\\\n|/(?!\*))*?)[ ]*(?:/\*(.*?)\*/)?\n(?=#|\Z)"
    for name, parameters, value, comment in re.findall(pattern, code, re.S):
        yield Member(name, f"{name}{parameters} {one_line(value.replace(chr(92), ''))}", one_line(comment))


def _struct_members(code: str) -> Iterator[Member]:
    body = re.search(r"^typedef struct \w+ \{[ ]*\n(.*?)^\}", code, re.S | re.M)
    if not body:
        return
    member = re.compile(r"^  (?:(\w[^;\n]*);)?[ ]*(?:/\*\s*(.*?)\s*\*/)?[ ]*$", re.S | re.M)
    for declaration, comment in member.findall(body.group(1)):
        yield Member(declaration.split(" ")[-1].lstrip("*"), declaration, one_line(comment))


def parse(text: str) -> Header:
    version = re.search(r'^#define POOL_VERSION "(.*)"$', text, re.M)
    rules = re.search(r"RULES THAT HOLD FOR EVERY FUNCTION\n(.*?)\n \*\n \* The names", text, re.S)
    start, end = text.find("#define POOL_VERSION_MAJOR"), text.find("#ifdef __cplusplus\n}")
    if not version or not rules or start < 0 or end < 0:
        raise ValueError("the header has another form than is known here")
    section, comment = "", ""
    introductions: dict[str, str] = {}
    items: list[Item] = []
    for piece in PIECE.finditer(text, start, end):
        if piece["code"] is not None:
            items.append(Item(section, comment, piece["code"]))
            comment = ""
            continue
        comment = plain(piece["comment"])
        heading = HEADING.search(comment.split("\n")[0])
        if heading:
            section, comment = heading.group(1), ""
            # "errors" stands twice: codes, and the functions that tell them.
            introductions[section] = plain("\n" + piece["comment"].partition("\n")[2])
    return Header(version.group(1), plain("\n" + rules.group(1)), introductions, items)
