"""Snippets: a few consecutive lines of a source file, alone or planted among lines of prose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.demo.code_language.corpus import Prose, Source

SHORTEST, LONGEST = 3, 40
# Of a snippet's lines, how many have to be code: a place that is all comment says nothing of the language.
CODE_LINES, CODE_SHARE = 2, 0.4

Blocks = tuple[tuple[str, str], ...]
SLASHES: tuple[tuple[str, ...], Blocks] = (("//",), (("/*", "*/"),))
# What a comment line starts with, and what opens and closes a comment block at the start of a line.
COMMENTS: dict[str, tuple[tuple[str, ...], Blocks]] = {
    "css": ((), (("/*", "*/"),)),
    "haskell": (("--",), (("{-", "-}"),)),
    "lua": (("--",), (("--[[", "]]"), ("--[=[", "]=]"))),
    "perl": (("#",), (("=", "=cut"), ("__END__", "\0"))),
    "php": (("//", "#"), (("/*", "*/"),)),
    "python": (("#",), (('"""', '"""'), ("'''", "'''"), ('r"""', '"""'))),
    "r": (("#",), ()),
    "ruby": (("#",), (("=begin", "=end"), ("__END__", "\0"))),
    "shell": (("#",), ()),
    "sql": (("--",), (("/*", "*/"),)),
}
WORD = re.compile(r"(?<![^\W_])[^\W\d_]{2}")


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A text with code of one language in its characters `start` to `end`."""

    text: str
    language: str
    project: str
    start: int
    end: int


@dataclass(frozen=True)
class _File:
    lines: list[str]
    code: list[bool]


@dataclass(frozen=True)
class _Project:
    name: str
    files: list[_File]
    shares: NDArray[np.float64]
    weight: float


def code_lines(language: str, lines: Sequence[str]) -> list[bool]:
    """Which lines hold a word of code: not empty, no comment, not punctuation and numbers alone."""
    starts, blocks = COMMENTS.get(language, SLASHES)
    flags: list[bool] = []
    closing = ""
    for line in lines:
        bare = line.strip()
        if closing:
            flags.append(False)
            closing = "" if closing in bare else closing
            continue
        opened = next((block for block in blocks if bare.startswith(block[0])), None)
        # Documentation in Perl opens with a command in the first column; elsewhere "=" is an assignment.
        if opened and opened[0] == "=" and not re.match(r"=[a-z]", line):
            opened = None
        if opened:
            flags.append(False)
            closed = opened[1] in bare[len(opened[0]) :] or bare == opened[1]
            closing = "" if closed else opened[1]
            continue
        flags.append(not (starts and bare.startswith(starts)) and WORD.search(bare) is not None)
    return flags


class Sampler:
    """Draws snippets of 3 to 40 lines: a project, a file by its length, a place in the file.

    A project counts by the square root of its lines: large ones do not drown the others, nor tiny ones them.

    The same sources and the same state of the generator give the same snippets.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._projects: dict[str, list[_Project]] = {}
        grouped: dict[tuple[str, str], list[_File]] = {}
        for source in sources:
            lines = source.text.rstrip().split("\n")
            file = _File(lines, code_lines(source.language, lines))
            if len(lines) >= SHORTEST and sum(file.code) >= CODE_LINES:
                grouped.setdefault((source.language, source.project), []).append(file)
        for (language, name), files in sorted(grouped.items()):
            sizes = np.array([len(file.lines) for file in files], dtype=np.float64)
            project = _Project(name, files, sizes / sizes.sum(), float(np.sqrt(sizes.sum())))
            self._projects.setdefault(language, []).append(project)
        self.languages = tuple(sorted(self._projects))

    def draw(
        self, language: str, rng: np.random.Generator, *, shortest: int = SHORTEST, longest: int = LONGEST
    ) -> Snippet:
        """One snippet of this language, of `shortest` to `longest` lines."""
        projects = self._projects[language]
        weights = np.array([project.weight for project in projects])
        weights /= weights.sum()
        while True:
            project = projects[rng.choice(len(projects), p=weights)]
            file = project.files[rng.choice(len(project.files), p=project.shares)]
            length = min(int(rng.integers(shortest, longest + 1)), len(file.lines))
            start = int(rng.integers(len(file.lines) - length + 1))
            end = start + length
            while start < end and not file.lines[start].strip():
                start += 1
            while start < end and not file.lines[end - 1].strip():
                end -= 1
            code = sum(file.code[start:end])
            written = sum(1 for line in file.lines[start:end] if line.strip())
            if end - start >= shortest and code >= max(CODE_LINES, CODE_SHARE * written):
                text = "\n".join(file.lines[start:end])
                return Snippet(text=text, language=language, project=project.name, start=0, end=len(text))

    def balanced(self, count: int, rng: np.random.Generator) -> list[Snippet]:
        """`count` distinct snippets of every language, in turn."""
        drawn: dict[str, Snippet] = {}
        for language in self.languages:
            wanted = len(drawn) + count
            while len(drawn) < wanted:
                snippet = self.draw(language, rng)
                drawn.setdefault(snippet.text, snippet)
        return list(drawn.values())


def vary(snippet: Snippet, rng: np.random.Generator) -> Snippet:
    """A training variant: at times without comments, with lines dropped, or without its common indent."""
    lines = snippet.text.split("\n")
    if rng.random() < 0.3:
        kept = [line for line, code in zip(lines, code_lines(snippet.language, lines), strict=True) if code]
        lines = kept if len(kept) >= CODE_LINES else lines
    if rng.random() < 0.15:
        kept = [line for line in lines if rng.random() < 0.8]
        lines = kept if sum(map(bool, map(str.strip, kept))) >= CODE_LINES else lines
    if rng.random() < 0.3:
        indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        lines = [line[indent:] for line in lines]
    text = "\n".join(lines)
    return Snippet(text=text, language=snippet.language, project=snippet.project, start=0, end=len(text))


def plant(snippet: Snippet, prose: Sequence[Prose], rng: np.random.Generator, *, lines: int) -> Snippet:
    """The same code at a random place among `lines` lines of plain English.

    The prose comes from one project; `start` and `end` keep marking the code.
    """
    page = prose[int(rng.integers(len(prose)))].lines
    first = int(rng.integers(max(1, len(page) - lines + 1)))
    around = page[first : first + lines]
    above = int(rng.integers(len(around) + 1))
    gap = "\n\n" if rng.random() < 0.5 else "\n"
    before = "".join(f"{line}\n" for line in around[:above])
    before = before[:-1] + gap if before else ""
    after = gap + "\n".join(around[above:]) if above < len(around) else ""
    return Snippet(
        text=before + snippet.text + after,
        language=snippet.language,
        project=snippet.project,
        start=len(before),
        end=len(before) + len(snippet.text),
    )
