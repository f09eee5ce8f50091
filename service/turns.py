"""The event loop's own time, shared among models."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets one request of each model begin in every pass of the event loop.

    What a request takes on the loop (its body, a short decode, its answer) is as much as a small model's run.
    Without turns, the requests that many clients have sent to one model would all begin before that of
    another, and so again at each further step. Nobody waits for a time, only for passes.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def wait(self, model: str) -> None:
        """Until it is this request's turn: at once but for those of the same model that came before."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._pass, loop)
        self._waiting.setdefault(model, deque()).append(turn)
        await turn

    def _pass(self, loop: asyncio.AbstractEventLoop) -> None:
        for model, turns in list(self._waiting.items()):
            while turns and turns[0].done():  # its client has left
                turns.popleft()
            if turns:
                turns.popleft().set_result(None)
            if not turns:
                del self._waiting[model]
        if self._waiting:
            loop.call_soon(self._pass, loop)
