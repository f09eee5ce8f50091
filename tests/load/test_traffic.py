"""The load client itself: on a server that goes wrong on purpose, it notices."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.load.question import Question
from tests.load.traffic import Traffic

QUESTIONS = 4


def answer(text: str, key: str, number: str, *, status: int = 200, headers: str = "") -> bytes:
    """A reply as the server writes it."""
    predictions = [{"label": text, "score": len(text) / 100, "maps": []}]
    body = json.dumps({"id": key, "predictions": predictions}).encode()
    head = (
        f"HTTP/1.1 {status} Status\r\nx-request-id: {number}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


async def asked(fault: str) -> Traffic:
    """What the client makes of a server that has this fault once it was asked every question."""
    count = 0
    served = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        served.add(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length, number = re.search(r"length: (\d+)", head), re.search(r"request-id: (\S+)", head)
                assert length, head
                assert number, head
                text = (await reader.readexactly(int(length[1]))).decode()
                count += 1
                good = answer(text, f"key-{count}", number[1])
                replies: dict[str, bytes] = {
                    "cut off": good[:-5],
                    "unanswered": b"",
                    "twice": good + good,
                    "another's": answer("text 9", f"key-{count}", number[1]),
                    "another's id": answer(text, f"key-{count}", "load-0"),
                    "the same again": answer(text, "key-5", number[1]),
                    "an error": answer(text, f"key-{count}", number[1], status=500),
                    "no time to come back": answer(text, f"key-{count}", number[1], status=503),
                }
                writer.write(replies.get(fault, good) if count > QUESTIONS else good)
                await writer.drain()
                if count > QUESTIONS and fault in ("cut off", "unanswered"):
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        questions = [Question("model", f"text {n}".encode(), "text/plain") for n in range(QUESTIONS)]
        traffic = Traffic(server.sockets[0].getsockname()[1], questions)
        await traffic.learn()
        for _ in range(3):
            await traffic.ask(traffic.any())
        traffic.close()
        await asyncio.wait(served)
    return traffic


def test_good_answers_are_no_fault() -> None:
    traffic = asyncio.run(asked("none"))
    assert not traffic.faults
    assert traffic.statuses == {200: 3}
    assert traffic.right == {0: 3}


@pytest.mark.parametrize(
    "fault",
    [
        "cut off",
        "unanswered",
        "twice",
        "another's",
        "another's id",
        "the same again",
        "an error",
        "no time to come back",
    ],
)
def test_what_goes_wrong_is_noticed(fault: str) -> None:
    assert asyncio.run(asked(fault)).faults
