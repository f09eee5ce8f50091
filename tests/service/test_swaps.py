"""Real models come and go under requests, and leave nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.decode.limits import Limits
from service.errors import InvalidInput
from service.job import Payload, Wanted
from service.predictor import Predictor
from service.registry import Registry
from service.scheduler import Scheduler
from service.sessions import SessionPool
from service.settings import Settings

DEADLINE = 60
GROWN_MIB = 6  # of which the tokenizers that are kept take a part; with the graphs kept it is over 100
TEXTS = ["a", "fn main() {}", "x" * 40]


def load(pool: SessionPool) -> Callable[[Path], Predictor]:
    return lambda folder: Predictor.load(
        folder, pool, Limits(), batch_tokens=128, batch_pixels=10_000, batch_tap_bytes=2**24
    )


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file of a bundle and its checksum with it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_no_answer_fails_or_changes_in_swaps_under_requests(text_repository: Path) -> None:
    pool = SessionPool(device="cpu")
    registry = Registry(text_repository, load(pool))
    scheduler = Scheduler(slots=2, queue_batches=100)
    registry.open()
    first = registry.get("tiny-text")
    expected = [first.run([first.job(first.decode(Payload(data=text)))])[0].logits for text in TEXTS]
    folder = text_repository / "tiny-text" / "1"

    async def work() -> None:
        scheduler.start()
        done = False

        async def ask(index: int) -> int:
            answers = 0
            while not done:
                with registry.lease("tiny-text") as predictor:
                    item = await asyncio.to_thread(predictor.decode, Payload(data=TEXTS[index]))
                    wanted = Wanted(maps=frozenset({"cls"}), proof=True) if answers % 2 else Wanted()
                    (one,) = await scheduler.submit(predictor, [predictor.job(item, wanted)])
                    assert not predictor.closed
                np.testing.assert_allclose(one.result.logits, expected[index], atol=1e-5)
                answers += 1
            return answers

        requests = [asyncio.create_task(ask(index % len(TEXTS))) for index in range(6)]
        retired = [first]
        for swap in range(10):
            if swap % 5 == 4:
                model = (folder / "model.onnx").read_bytes()
                (folder / "model.onnx").write_bytes(model[: len(model) // 2])
                with pytest.raises(InvalidInput, match=r"model\.onnx does not match its checksum"):
                    await registry.load("tiny-text")
                (folder / "model.onnx").write_bytes(model)
            staged = shutil.copytree(folder, text_repository / ".staged")
            folder.rename(text_repository / ".old")
            staged.rename(folder)
            shutil.rmtree(text_repository / ".old")
            await registry.refresh()
            assert registry.get("tiny-text") not in retired
            retired.append(registry.get("tiny-text"))
        done = True
        assert min(await asyncio.gather(*requests)) > 10
        await scheduler.close()
        await registry.close()
        assert all(predictor.closed for predictor in retired)

    asyncio.run(asyncio.wait_for(work(), DEADLINE))


# In a process of its own, where nothing else takes or gives back memory.
CYCLES = """
import asyncio, os, sys, threading
from pathlib import Path

import psutil

from service.decode.limits import Limits
from service.predictor import Predictor
from service.registry import Registry
from service.sessions import SessionPool

pool = SessionPool(device="cpu")
me = psutil.Process()


def load(folder):
    return Predictor.load(
        folder, pool, Limits(), batch_tokens=512, batch_pixels=600_000, batch_tap_bytes=2**28
    )


async def work():
    registry = Registry(Path(sys.argv[1]), load)
    registry.open()
    kept = []  # as predictions that are kept do

    async def cycle():
        kept.append(registry.get("tiny-text"))
        await registry.unload("tiny-text")
        await registry.load("tiny-text")  # behind the closing of the old one, in the same thread
        assert kept[-1].closed

    for _ in range(5):
        await cycle()
    before = me.memory_info().rss, me.num_fds(), threading.active_count()
    for _ in range(30):
        await cycle()
    after = me.memory_info().rss, me.num_fds(), threading.active_count()
    await registry.close()
    print((after[0] - before[0]) / 2**20, after[1] - before[1], after[2] - before[2])


asyncio.run(work())
"""


def test_thirty_cycles_of_loading_and_unloading_leave_nothing_behind(text_repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CYCLES, str(text_repository)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown_mib, files, threads = map(float, done.stdout.split())
    assert (files, threads) == (0, 0)
    assert grown_mib < GROWN_MIB


def test_refusals_are_told_over_http_with_no_word_of_the_machine(
    text_repository: Path, tmp_path: Path
) -> None:
    def bundle(name: str) -> Path:
        return shutil.copytree(text_repository / "tiny-text" / "1", text_repository / name / "1")

    (bundle("changed") / "tokenizer.json").write_text("{}")
    rewrite(bundle("garbage"), "model.onnx", b"garbage")
    rewrite(bundle("wordless"), "tokenizer.json", b"{}")
    bundle("renamed")
    with TestClient(create_app(Settings(models=text_repository, device="cpu", slots=1))) as client:
        models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
        assert {name: model["state"] for name, model in models.items()} == {
            "tiny-text": "ready",
            **dict.fromkeys(["changed", "garbage", "wordless", "renamed"], "refused"),
        }
        assert models["changed"]["reason"] == "1: tokenizer.json does not match its checksum"
        assert models["renamed"]["reason"] == "the manifest says tiny-text/1"
        assert "the bundle cannot be loaded" in models["garbage"]["reason"]
        assert str(tmp_path) not in client.get("/v1/models").text
        assert client.get("/readyz").status_code == 503
        assert client.post("/v1/models/garbage/predict", json={"text": "a"}).status_code == 404
        assert client.post("/v1/models/tiny-text/predict", json={"text": "a"}).status_code == 200
