"""A request under way: bounded, answered in time, and given up when its client has left."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.errors import InvalidInput
from service.inference import Inference
from service.predictions import Predictions
from service.predictor import Predictor
from service.settings import Settings

pytestmark = pytest.mark.anyio

SECONDS = 10
PREDICT = "/v1/models/tiny-text/predict"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Runs of every model wait until it is set."""
    opened, run = threading.Event(), Predictor.run

    def held(self: Predictor, jobs: Any) -> Any:
        assert opened.wait(SECONDS)
        return run(self, jobs)

    opened.set()
    monkeypatch.setattr(Predictor, "run", held)
    return opened


@dataclass
class Client:
    """One HTTP request to an application, whose client may go away before the answer."""

    app: FastAPI
    body: bytes = b'{"text": "fn main() {}"}'
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    stalls: bool = False
    sent: list[Any] = field(default_factory=list)

    async def post(self, path: str = PREDICT, query: str = "") -> tuple[int, Any]:
        """Status and document of the answer."""
        headers = {"content-type": "application/json", "content-length": str(len(self.body)), **self.headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        messages = iter([{"type": "http.request", "body": self.body, "more_body": False}])

        async def receive() -> Any:
            if not self.stalls and (message := next(messages, None)) is not None:
                return message
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = self.sent
        body = b"".join(message.get("body", b"") for message in rest)
        return start["status"], json.loads(body or "null")

    @property
    def response_headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}


@asynccontextmanager
async def serving(root: Path, **settings: Any) -> AsyncIterator[tuple[FastAPI, Inference]]:
    app = create_app(Settings(models=root, device="cpu", slots=1, **settings))
    async with asyncio.timeout(3 * SECONDS), app.router.lifespan_context(app):
        yield app, app.state.inference


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_a_client_who_left_had_waiting_never_runs(
    text_repository: Path, gate: threading.Event
) -> None:
    async with serving(text_repository) as (app, inference):
        gate.clear()
        first = asyncio.create_task(Client(app).post())
        await until(lambda: inference.scheduler.busy)
        leaving = [Client(app) for _ in range(20)]
        tasks = [asyncio.create_task(client.post()) for client in leaving]
        await until(lambda: inference.scheduler.waiting == 20)
        for client in leaving:
            client.gone.set()
        await asyncio.gather(*tasks)
        assert inference.scheduler.waiting == 0
        assert inference.admission.requests.total == 1
        gate.set()
        assert (await first)[0] == 200
        counted = inference.statistics.of("tiny-text", "1").document()
    assert (counted["inference_count"], counted["execution_count"]) == (1, 1)
    assert counted["inference_stats"]["fail"]["count"] == 20


async def test_a_request_that_is_not_answered_in_time_is_504_and_never_runs(
    text_repository: Path, gate: threading.Event
) -> None:
    async with serving(text_repository) as (app, inference):
        gate.clear()
        first = asyncio.create_task(Client(app).post())
        await until(lambda: inference.scheduler.busy)
        status, problem = await Client(app).post(query="timeout=0.05")
        assert (status, problem["field"], problem["limit"]) == (504, "timeout", 0.05)
        assert inference.scheduler.waiting == 0
        gate.set()
        assert (await first)[0] == 200
        assert inference.statistics.of("tiny-text", "1").document()["execution_count"] == 1


async def test_no_request_may_take_longer_than_the_server_says(
    text_repository: Path, gate: threading.Event
) -> None:
    async with serving(text_repository, timeout_seconds=0.1) as (app, _):
        gate.clear()
        status, problem = await Client(app).post(query="timeout=100")
        assert (status, problem["limit"]) == (504, 0.1)
        gate.set()


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
async def test_a_timeout_that_is_none_is_refused(text_repository: Path, timeout: str) -> None:
    async with serving(text_repository) as (app, _):
        status, problem = await Client(app).post(query=f"timeout={timeout}")
    assert (status, problem["field"]) == (400, "timeout")


async def test_a_body_that_does_not_arrive_is_408(text_repository: Path) -> None:
    async with serving(text_repository, timeout_seconds=0.1) as (app, inference):
        status, problem = await Client(app, stalls=True).post()
        assert inference.admission.requests.total == 0
    assert (status, problem["field"], problem["limit"]) == (408, "body", 0.1)


async def test_beyond_the_bounds_a_request_is_refused_before_its_body_is_read(
    text_repository: Path, gate: threading.Event
) -> None:
    async with serving(text_repository, max_requests=4) as (app, inference):
        gate.clear()
        held = [asyncio.create_task(Client(app).post()) for _ in range(2)]
        await until(lambda: inference.admission.requests.total == 2)
        refused = Client(app, stalls=True)
        status, problem = await refused.post()
        assert (status, problem["field"], problem["limit"]) == (503, "max_requests", 4)
        assert int(refused.response_headers["retry-after"]) >= 1
        gate.set()
        assert [status for status, _ in await asyncio.gather(*held)] == [200, 200]
        assert (await Client(app).post())[0] == 200


async def test_bytes_under_way_are_bounded_as_declared_or_as_they_arrive(
    text_repository: Path, gate: threading.Event
) -> None:
    sizes = {"max_request_bytes": 1_000, "max_body_bytes": 900}
    async with serving(text_repository, **sizes) as (app, inference):
        gate.clear()
        body = json.dumps({"text": "a" * 500}).encode()
        held = asyncio.create_task(Client(app, body=body).post())
        await until(lambda: inference.admission.bytes.total == len(body))
        for headers in ({}, {"content-length": "", "transfer-encoding": "chunked"}):
            status, problem = await Client(app, body=body, headers=headers).post()
            assert (status, problem["field"], problem["limit"]) == (503, "max_request_bytes", 1_000)
        gate.set()
        assert (await held)[0] == 200
        assert inference.admission.bytes.total == 0


async def test_timing_is_in_the_headers_too(text_repository: Path) -> None:
    async with serving(text_repository) as (app, _):
        client = Client(app)
        _, answer = await client.post()
    headers = client.response_headers
    assert float(headers["x-queue-time"]) == pytest.approx(answer["timing"]["queue_ms"])
    assert float(headers["x-inference-time"]) == pytest.approx(answer["timing"]["run_ms"])
    assert int(headers["x-compute-tokens"]) == len(answer["predictions"][0]["input"]["tokens"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("top_k", True),
        ("layers", True),
        ("layers", [0, True]),
        ("heads", False),
        ("target", True),
        ("timeout", True),
    ],
)
async def test_true_is_no_number(text_repository: Path, option: str, value: Any) -> None:
    async with serving(text_repository) as (app, _):
        body = json.dumps({"text": "a", "maps": ["cls"], option: value}).encode()
        status, problem = await Client(app, body=body).post()
    assert (status, problem["field"]) == (400, option)


async def test_a_body_that_is_too_large_is_413_however_much_room_there_is(text_repository: Path) -> None:
    async with serving(text_repository, max_body_bytes=1000, max_request_bytes=2000) as (app, inference):
        status, problem = await Client(app, headers={"content-length": "1001"}, stalls=True).post()
        assert (status, problem["field"], problem["limit"]) == (413, "body", 1000)
        assert inference.admission.requests.total == 0


async def test_json_is_bounded_more_tightly_than_bytes(text_repository: Path) -> None:
    async with serving(text_repository, max_json_bytes=1000) as (app, _):
        large = b"a" * 1500
        status, problem = await Client(app, body=json.dumps({"text": large.decode()}).encode()).post()
        assert (status, problem["field"], problem["limit"]) == (413, "body", 1000)
        assert (await Client(app, body=large, headers={"content-type": "text/plain"}).post())[0] == 200
        tensors = json.dumps(
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a" * 1500]}]}
        )
        status, error = await Client(app, body=tensors.encode()).post("/v2/models/tiny-text/infer")
        assert (status, list(error)) == (413, ["error"])


async def test_half_of_a_surrogate_pair_is_refused_and_not_a_fault_of_ours(text_repository: Path) -> None:
    async with serving(text_repository) as (app, _):
        for body in (rb'{"\ud800": 1}', rb'{"text": "a", "\ud800": 1}', rb'{"text": "\ud800"}'):
            assert (await Client(app, body=body).post())[0] == 400


async def test_as_many_chunked_and_compressed_bodies_as_others_are_under_way(
    text_repository: Path, gate: threading.Event
) -> None:
    async with serving(text_repository) as (app, inference):
        gate.clear()
        chunked = {"content-length": "", "transfer-encoding": "chunked"}
        document = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
        packed = gzip.compress(json.dumps(document).encode())
        tasks = [asyncio.create_task(Client(app, headers=chunked).post()) for _ in range(16)]
        tasks += [
            asyncio.create_task(
                Client(app, body=packed, headers={"content-encoding": "gzip"}).post(
                    "/v2/models/tiny-text/infer"
                )
            )
            for _ in range(16)
        ]
        await until(lambda: inference.scheduler.waiting + inference.scheduler.busy >= 32)
        gate.set()
        assert {status for status, _ in await asyncio.gather(*tasks)} == {200}
        assert inference.admission.bytes.total == 0


async def test_the_timeout_counts_the_writing_of_the_answer(
    text_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    monkeypatch.setattr(Predictions, "_answer", lambda *_: held.wait(SECONDS))
    async with serving(text_repository) as (app, _):
        body = json.dumps({"text": ["a", "b"], "timeout": 0.1}).encode()
        status, problem = await Client(app, body=body).post()
        held.set()
    assert (status, problem["field"]) == (504, "timeout")


async def test_when_one_input_is_bad_the_others_are_not_decoded_for_nobody(
    text_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = [], Predictor.decode

    def slow(self: Predictor, payload: Any) -> Any:
        decoded.append(payload)
        if payload.data == "bad":
            raise InvalidInput("bad", field="text")
        time.sleep(0.05)
        return decode(self, payload)

    monkeypatch.setattr(Predictor, "decode", slow)
    async with serving(text_repository, decode_threads=1) as (app, _):
        body = json.dumps({"text": ["bad", *(["a"] * 20)]}).encode()
        assert (await Client(app, body=body).post())[0] == 400
        assert (await Client(app).post())[0] == 200
    assert len(decoded) < 5


async def test_clients_who_ask_for_the_same_map_share_a_run(text_repository: Path) -> None:
    async with serving(text_repository) as (app, inference):
        _, answer = await Client(app).post()
        path = f"/v1/predictions/{answer['id']}/0/maps/rollout.json"
        found = await asyncio.gather(*(Client(app, method="GET").post(path) for _ in range(8)))
        assert {status for status, _ in found} == {200}
        counted = inference.statistics.of("tiny-text", "1").document()
    assert counted["execution_count"] == 2
    assert counted["inference_count"] == 1  # a map is no prediction


async def test_a_model_whose_session_fails_is_not_ready_while_another_is(
    text_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(text_repository / "tiny-text", text_repository / "other")
    manifest = text_repository / "other" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny-text"', '"other"', 1))
    async with serving(text_repository) as (app, _):
        run = Predictor.run

        def fail(self: Predictor, jobs: Any) -> Any:
            if self.manifest.name == "other":
                raise RuntimeError("the device is gone")
            return run(self, jobs)

        monkeypatch.setattr(Predictor, "run", fail)
        ready = {
            path: (await Client(app, method="GET").post(path))[0]
            for path in (
                "/v2/models/tiny-text/ready",
                "/v2/models/other/ready",
                "/v2/health/ready",
                "/readyz",
                "/healthz",
            )
        }
    assert list(ready.values()) == [200, 503, 503, 503, 200]
