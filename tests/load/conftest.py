"""Real server processes under load, the models they serve, and the table of what was measured."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import uvloop
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from export.pack import pack
from models.checkpoints import native
from models.text import TextConfig, TextTransformer
from service.settings import DEMO
from tests.load.process import ROOT, Process, running

BERT = ROOT / ".cache" / "load" / "models"
VOCABULARY = 1000
TABLE = pytest.StashKey[list[tuple[str, str]]]()

Serve = Callable[..., AbstractContextManager[Process]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--load-seconds", type=float, default=300, help="How long the sustained load lasts.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(TABLE, []):
        terminalreporter.section("figures")
        width = max(len(what) for what, _ in rows)
        for what, figure in rows:
            terminalreporter.write_line(f"{what:{width}}  {figure}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Puts a row into the table that is printed at the end."""
    rows = request.config.stash[TABLE]
    return lambda what, found: rows.append((what, found))


def word_tokenizer() -> Tokenizer:
    """w3 to w999, each a token, between [CLS] and [SEP]."""
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2} | {f"w{index}": index for index in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def word_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `word_tokenizer`."""
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    word_tokenizer().save(str(file))
    return file


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of BERT-base's size, 12 layers of 768, random weights, a token for each word; made once."""
    folder = BERT / "bert-base" / "1"
    if not folder.exists():
        torch.manual_seed(0)
        config = TextConfig(
            vocabulary=VOCABULARY, labels=8, width=768, layers=12, heads=12, feedforward=3072, positions=512
        )
        checkpoint = tmp_path_factory.mktemp("checkpoint")
        native.save(
            checkpoint,
            TextTransformer(config).eval(),
            name="bert-base",
            version="1",
            description="Untrained, for load tests.",
            labels=[f"label-{index}" for index in range(8)],
            preprocessing={"kind": "text", "max_tokens": 512, "token_types": False},
            card=None,
        )
        word_tokenizer().save(str(checkpoint / "tokenizer.json"))
        pack(native.load(checkpoint), BERT)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The bundle of the built-in text model."""
    return DEMO / "code-language" / "1"


def place(bundle: Path, root: Path, name: str, version: str = "1", *, turn: bool = False) -> Path:
    """A copy of a bundle under another name; `turn` reverses its labels, so that it answers otherwise."""
    folder = root / name / version
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"name": name, "version": version}
    if turn:
        manifest["labels"].reverse()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def copy() -> Callable[..., Path]:
    """Puts a copy of a bundle into a repository."""
    return place


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Starts a server on a model repository with these settings."""
    return partial(running, tmp_path / "log")


@pytest.fixture
def run() -> Iterator[Callable[..., Any]]:
    """Runs a coroutine, on an event loop that costs little."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run
