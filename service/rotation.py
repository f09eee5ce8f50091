"""Who waits, by model, and whose turn is next."""

from __future__ import annotations

import asyncio


class Rotation:
    """Turns that requests wait for: models one after the other, the requests of one model as they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    def __len__(self) -> int:
        """How many models have somebody waiting."""
        return len(self._waiting)

    def join(self, model: str) -> asyncio.Future[None]:
        """A turn to wait for; who leaves cancels it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(model, {})[turn] = None
        turn.add_done_callback(lambda _: self._leave(model, turn))
        return turn

    def advance(self) -> bool:
        """Give the next model's first request its turn; False where nobody waits."""
        for model, turns in list(self._waiting.items()):
            for turn in list(turns):
                self._leave(model, turn)
                if not turn.done():
                    if turns:  # the model goes behind all others
                        self._waiting[model] = self._waiting.pop(model)
                    turn.set_result(None)
                    return True
        return False

    def _leave(self, model: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(model, {})
        turns.pop(turn, None)
        if not turns:
            self._waiting.pop(model, None)
