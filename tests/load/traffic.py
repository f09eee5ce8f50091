"""Many clients at once, and a tally of what became of every request."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from tests.load.client import Connection, Lost, Reply
from tests.load.question import Question, document

IDLE_SECONDS = 2  # shorter than the server keeps a connection, so that nothing is sent into a closing one
RETRIES = 3
# Fewer than a listening socket holds (2048), more than the server admits (256).
MOST = 512
SHOWN = 5


class Traffic:
    """Clients of one server. Every reply is judged when it comes; what was wrong is in `faults`."""

    def __init__(self, port: int, questions: Sequence[Question], *, keep: bool = True, seed: int = 0) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []  # of the answers with 200
        self.right: Counter[int] = Counter()  # which of a question's right answers came
        self.refused = 0  # connections the server did not take
        self.sent = 0
        self._faults: list[str] = []
        self._port = port
        self._questions = questions
        self._keep = keep
        self._idle: list[tuple[Connection, float]] = []
        self._ids: set[str] = set()
        self._chance = random.Random(seed)

    @property
    def faults(self) -> str:
        """How many requests were lost, late, answered twice or wrongly, and the first few of them."""
        shown = "".join(f"\n{fault}" for fault in self._faults[:SHOWN])
        return f"{len(self._faults)} of {self.sent} requests{shown}" if self._faults else ""

    async def learn(self) -> None:
        """Ask every question alone: that is its right answer."""
        for question in self._questions:
            reply = await self.ask(question, judged=False)
            assert reply is not None, self.faults
            assert reply.status == 200, reply.body
            question.learn(document(reply))

    async def ask(self, question: Question, *, judged: bool = True) -> Reply | None:
        """The reply, or None where there was none; the tally is kept."""
        self.sent += 1
        number = self.sent
        try:
            connection = await self._connection()
        except OSError:
            self.refused += 1
            return None
        try:
            reply = await connection.ask(question.wire(number))
            if judged:
                self._judge(question, number, reply)
        except (Lost, TimeoutError, AssertionError) as error:
            self._faults.append(f"request {number}: {error!r}")
            connection.reset()
            return None
        if connection.unasked:
            self._faults.append(f"request {number}: a second answer, {connection.unasked[:200]!r}")
        if connection.usable and self._keep:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.close()
        return reply

    def _judge(self, question: Question, number: int, reply: Reply) -> None:
        self.statuses[reply.status] += 1
        assert reply.header(b"x-request-id") == f"load-{number}".encode(), reply.head
        if reply.status == 503:
            assert int(reply.header(b"retry-after") or 0) >= 1, reply.head
            return
        assert reply.status == 200, (reply.status, reply.body)
        found = document(reply)
        assert found["id"] not in self._ids, f"{found['id']} came twice"
        self._ids.add(found["id"])
        self.right[question.check(found)] += 1
        self.seconds.append(reply.seconds)

    async def _connection(self) -> Connection:
        while self._idle:
            connection, since = self._idle.pop()
            if connection.unasked:
                self._faults.append(f"a second answer, {connection.unasked[:200]!r}")
            if connection.usable and time.monotonic() - since < IDLE_SECONDS:
                return connection
            connection.close()
        return await Connection.open(self._port)

    def any(self) -> Question:
        """One of the questions."""
        return self._chance.choice(self._questions)

    async def saturate(self, clients: int, seconds: float) -> float:
        """So many clients, each with its next request as soon as it has its reply; answers with 200 a second.

        A client that gets no reply asks no more.
        """
        answered, started = len(self.seconds), time.monotonic()

        async def client() -> None:
            while time.monotonic() < started + seconds:
                if await self.ask(self.any()) is None:
                    return

        await asyncio.gather(*(client() for _ in range(clients)))
        return (len(self.seconds) - answered) / (time.monotonic() - started)

    async def flood(self, clients: int, over: asyncio.Event) -> None:
        """So many clients, each with its next request as soon as it has its reply, until it is over."""

        async def client() -> None:
            while not over.is_set():
                await self.ask(self.any())

        await asyncio.gather(*(client() for _ in range(clients)))

    async def sustain(self, rate: float, seconds: float) -> float:
        """Requests at this rate, as long as fewer than MOST are under way; the rate that was reached.

        Every second client comes back after the seconds it was told, up to RETRIES times; it counts again.
        """
        free = asyncio.Semaphore(MOST)
        started, before, clients = time.monotonic(), self.sent, 0
        async with asyncio.TaskGroup() as group:
            while (elapsed := time.monotonic() - started) < seconds:
                while self.sent - before < elapsed * rate and not free.locked():
                    clients += 1
                    group.create_task(self._client(free, polite=clients % 2 == 0))
                    await asyncio.sleep(0)
                await asyncio.sleep(1 / rate)
            reached = (self.sent - before) / elapsed
        return reached

    async def _client(self, free: asyncio.Semaphore, *, polite: bool) -> None:
        question = self.any()
        for _ in range(1 + RETRIES * polite):
            async with free:
                reply = await self.ask(question)
            if reply is None or reply.status != 503:
                return
            await asyncio.sleep(int(reply.header(b"retry-after") or 1))

    async def trickle(self, until: asyncio.Event) -> None:
        """One client that pauses between its requests, about as long as they take."""
        while not until.is_set():
            reply = await self.ask(self.any())
            await asyncio.sleep(self._chance.uniform(0, 2) * (reply.seconds if reply else 1))

    def close(self) -> None:
        """Let the connections go."""
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()
