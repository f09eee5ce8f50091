"""The event loop's own time, shared among models."""

from __future__ import annotations

import asyncio

from service.rotation import Rotation


class Turns:
    """Lets one request of each model begin in every pass of the event loop.

    What a request takes on the loop (its body, a short decode, its answer) is as much as a small model's run.
    Without turns, the requests that many clients have sent to one model would all begin before that of
    another, and so again at each further step. Nobody waits for a time, only for passes.
    """

    def __init__(self) -> None:
        self._rotation = Rotation()

    async def wait(self, model: str) -> None:
        """Until it is this request's turn: at once but for those of the same model that came before."""
        if not len(self._rotation):
            asyncio.get_running_loop().call_soon(self._pass)
        await self._rotation.join(model)

    def _pass(self) -> None:
        for _ in range(len(self._rotation)):
            self._rotation.advance()
        if len(self._rotation):
            asyncio.get_running_loop().call_soon(self._pass)
