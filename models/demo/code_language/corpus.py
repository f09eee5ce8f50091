"""The corpus: source files and prose of the projects, cleaned, and without copies across the halves."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from models.demo.code_language.fetch import archives, fetch, opened
from models.demo.code_language.projects import Half, Project

SUFFIXES: dict[str, tuple[str, ...]] = {
    "c": (".c", ".h"),
    "c++": (".cpp", ".cc", ".cxx", ".hpp", ".hxx", ".hh", ".h"),
    "css": (".css",),
    "go": (".go",),
    "haskell": (".hs",),
    "java": (".java",),
    "javascript/typescript": (".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".mts"),
    "lua": (".lua",),
    "perl": (".pl", ".pm", ".t"),
    "php": (".php", ".inc"),
    "python": (".py",),
    "r": (".r", ".R"),
    "ruby": (".rb", ".rake"),
    "rust": (".rs",),
    "shell": (".sh", ".bash", ".zsh", ".bats", ""),
    "sql": (".sql", ".sql_in", ".sql.in"),
}
# What the text has to hold where the suffix alone does not tell the language.
MARKS: dict[tuple[str, str], re.Pattern[str]] = {
    ("c++", ".h"): re.compile(r"^\s*(class|namespace|template|using)\b|std::", re.M),
    ("perl", ".t"): re.compile(r"^\s*(use|package) ", re.M),
    ("php", ".php"): re.compile(r"<\?php"),
    ("php", ".inc"): re.compile(r"<\?php"),
    ("shell", ""): re.compile(r"\A#!\s*\S*(/|env )(ba|da|k|z)?sh\b"),
}
FOREIGN = re.compile(
    r"(^|/)(vendor|vendored|node_modules|third[-_]?party|external|extern|bundled?|contrib|debian|\.[^/]+)/"
    r"|[.-](min|bundle|umd)\.|\.d\.[cm]?ts$|(^|/)(configure|libtool|ltmain\.sh|aclocal|config\.(guess|sub))$"
)
BUILT = re.compile(r"(^|/)(dist|build|umd|esm|cjs|lib-esm|_site)/")
GENERATED = re.compile(r"do not edit|@generated|generated (by|from|with)|machine.generated", re.I)
LICENCE = re.compile(r"licen[cs]e|copying|copyright|warranty|permission", re.I)
PAGES = re.compile(r"(^|/)(readme[^/]*|[^/]+\.(md|rst|markdown|txt|pod))$", re.I)
SENTENCE = re.compile(r"[A-Za-z(\"'][A-Za-z0-9 ,.;:'\"()!?/-]+")
ENGLISH = re.compile(r"\b(the|a|an|is|are|to|of|and|in|that|for|with|this|you|it)\b")

LARGEST_FILE, SMALLEST_FILE, LONGEST_LINE = 300_000, 150, 300
PROJECT_BYTES = 500_000
PROSE_LINES, LEAST_PROSE = 400, 12
# A held-out file that shares more of its lines than this with the training half is a copy.
COPIED = 0.5
LEAST_LINE = 12


@dataclass(frozen=True)
class Source:
    """One source file."""

    project: str
    language: str
    half: Half
    path: str
    text: str


@dataclass(frozen=True)
class Prose:
    """Lines of plain English from a project's README files and documentation."""

    project: str
    half: Half
    lines: list[str]


@dataclass(frozen=True)
class Corpus:
    """All source files and all prose."""

    sources: list[Source]
    prose: list[Prose]

    def half(self, half: Half) -> Corpus:
        """What stands in one half."""
        return Corpus([s for s in self.sources if s.half == half], [p for p in self.prose if p.half == half])


def collect(folder: Path, projects: Sequence[Project], advance: Callable[[int], None]) -> Corpus:
    """The corpus of these projects, from the cache in `folder` or fetched and read into it.

    `advance` is told how many steps are done; there are two for each project.

    Raises:
        RuntimeError: a project could not be fetched.
    """
    rules = Path(__file__).read_text(encoding="utf-8")
    key = hashlib.sha256(f"{projects}{rules}".encode()).hexdigest()[:12]
    cache = folder / f"corpus-{key}.json.gz"
    if cache.exists():
        data = json.loads(gzip.decompress(cache.read_bytes()))
        advance(2 * len(projects))
        return Corpus([Source(**row) for row in data["sources"]], [Prose(**row) for row in data["prose"]])
    fetch(folder, projects, advance)
    sources: list[Source] = []
    prose: list[Prose] = []
    for project in projects:
        code, lines = read(project, archives(folder, project))
        sources += code
        prose.append(Prose(project.name, project.half, lines))
        advance(1)
    corpus = separate(Corpus(sources, prose))
    cache.write_bytes(gzip.compress(json.dumps(asdict(corpus)).encode(), 6, mtime=0))
    return corpus


def read(project: Project, paths: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """The clean source files of a project, at most `PROJECT_BYTES` of them, and its lines of prose."""
    found: dict[str, Source] = {}
    pages: list[str] = []
    for path in paths:
        for name, data in _members(path, project.language):
            text = _decoded(data)
            if text is None:
                continue
            suffix = _suffix(name, project.language)
            if suffix is not None and clean(text):
                mark = MARKS.get((project.language, suffix))
                if mark is None or mark.search(text):
                    source = Source(project.name, project.language, project.half, name, text)
                    found.setdefault(_digest(text), source)
            elif PAGES.search(name) and not LICENCE.search(name):
                pages += sentences(text)
    kept: list[Source] = []
    left = PROJECT_BYTES
    # In the order of their digests: as good as a shuffle, and the same everywhere.
    for _, source in sorted(found.items()):
        if len(source.text) <= left:
            kept.append(source)
            left -= len(source.text)
    return kept, list(dict.fromkeys(pages))[:PROSE_LINES]


def clean(text: str) -> bool:
    """Whether a file is written by hand: of ordinary size, without huge lines, not marked as generated."""
    if not SMALLEST_FILE <= len(text) <= LARGEST_FILE or GENERATED.search(text[:1500]):
        return False
    lines = text.split("\n")
    return max(map(len, lines)) <= LONGEST_LINE and len(text) / len(lines) <= 80


def sentences(page: str) -> list[str]:
    """The lines of a page that are plain English: words of a paragraph, no code, lists or headings."""
    lines: list[str] = []
    fenced = False
    for line in page.split("\n"):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if fenced or len(line) < 40 or len(line) > 120 or LICENCE.search(line):
            continue
        if SENTENCE.fullmatch(line.rstrip()) and len(ENGLISH.findall(line)) >= 2:
            lines.append(line.rstrip())
    return lines


def separate(corpus: Corpus) -> Corpus:
    """Take out of the held-out half what the training half has too: files, near copies, lines of prose."""
    digests: set[str] = set()
    seen: dict[str, set[str]] = {}
    sources: list[Source] = []
    for source in sorted(corpus.sources, key=lambda source: source.half != "train"):
        lines = _telling(source.text)
        known = seen.setdefault(source.language, set())
        digest = _digest(source.text)
        if digest in digests:
            continue
        digests.add(digest)
        if source.half == "train":
            known |= lines
        elif len(lines & known) > COPIED * len(lines):
            continue
        sources.append(source)
    trained = {line for page in corpus.prose if page.half == "train" for line in page.lines}
    prose: list[Prose] = []
    for page in corpus.prose:
        own = page.lines if page.half == "train" else [line for line in page.lines if line not in trained]
        if len(own) >= LEAST_PROSE:
            prose.append(Prose(page.project, page.half, own))
    return Corpus(sources, prose)


def _members(path: Path, language: str) -> Iterator[tuple[str, bytes]]:
    with opened(path) as archive:
        for member in archive:
            name = member.name
            if not member.isfile() or member.size > LARGEST_FILE or FOREIGN.search(name):
                continue
            if language == "javascript/typescript" and BUILT.search(name):
                continue
            if _suffix(name, language) is None and not PAGES.search(name):
                continue
            file = archive.extractfile(member)
            if file is not None:
                yield name, file.read()


def _suffix(name: str, language: str) -> str | None:
    """The suffix under which a file counts as one of the language; None where it does not."""
    base = PurePosixPath(name).name
    for suffix in SUFFIXES[language]:
        if base.endswith(suffix) if suffix else "." not in base:
            return suffix
    return None


def _decoded(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()


def _telling(text: str) -> set[str]:
    """The lines long enough to tell a file from another, without their indent."""
    return {bare for line in text.split("\n") if len(bare := line.strip()) >= LEAST_LINE}
