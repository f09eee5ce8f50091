"""The client for asyncio."""

from __future__ import annotations

from asyncio import sleep, to_thread
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar, Unpack, overload

import httpx

from regard_client.conversation import Conversation, http_settings
from regard_client.notebook import Drawing, page
from regard_client.numbers import MapNumbers
from regard_client.options import DrawOptions, MapOptions, PredictOptions
from regard_client.question import ONE, Input, ask
from regard_client.results import ModelInfo, ModelSummary, PredictedInput
from regard_client.retries import Pause, Retries, Talk

T = TypeVar("T")


class AsyncClient:
    """A Regard server at `base_url`; asked from one event loop, many requests at a time.

    timeout: seconds that the server may take to accept a connection or to send the next bytes. It ends a
        request itself after 60, unless it is set otherwise: its own word on that should come first.
    retries: how often a request is sent again where the server has no room (503) or no connection was made,
        within `retry_seconds` of the first time. Nothing else is sent again.
    transport: what sends, httpx's own if left out.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 75.0,
        retries: int = 3,
        retry_seconds: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings = http_settings(base_url, api_key=api_key, timeout=timeout)
        self._http = httpx.AsyncClient(**settings, transport=transport)
        self._conversation = Conversation(
            build=self._http.build_request, retries=Retries(count=retries, seconds=retry_seconds)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._http.base_url}{' closed' if self._http.is_closed else ''}>"

    async def close(self) -> None:
        """Close the connections; predictions stay readable, their maps cannot be fetched any more."""
        await self._http.aclose()

    async def models(self) -> tuple[ModelSummary, ...]:
        """What is served, and what was refused."""
        return await self._say(self._conversation.models())

    async def model(self, name: str, *, version: str | None = None) -> ModelInfo:
        """One model: its labels, maps and figures; the highest version if none is given."""
        return await self._say(self._conversation.model(name, version))

    @overload
    async def predict(  # type: ignore[overload-overlap]  # a text is one input, and no sequence of them
        self, model: str, input: Input, *, version: str | None = None, **options: Unpack[PredictOptions]
    ) -> AsyncPrediction: ...

    @overload
    async def predict(
        self,
        model: str,
        input: Sequence[Input],
        *,
        version: str | None = None,
        **options: Unpack[PredictOptions],
    ) -> list[AsyncPrediction]: ...

    async def predict(
        self,
        model: str,
        input: Input | Sequence[Input],
        *,
        version: str | None = None,
        **options: Unpack[PredictOptions],
    ) -> AsyncPrediction | list[AsyncPrediction]:
        """What the model says of an input, or of each of several, in one request and in order.

        An input is a text, a pair of texts in a tuple, the bytes of a picture or clip, or the path of a file.
        Raises Problem, ConnectionFailed and UnexpectedAnswer; TypeError and OSError for what is no input.
        """
        inputs = [input] if isinstance(input, ONE) else list(input)
        question = await to_thread(ask, model, inputs, options, version=version)
        found = await self._say(self._conversation.predict(question))
        predictions = [AsyncPrediction(**vars(one), _client=self) for one in found]
        return predictions[0] if isinstance(input, ONE) else predictions

    async def _say(self, talk: Talk[T]) -> T:
        """Send what a talk wants sent, and let it have the answers."""
        try:
            step = next(talk)
            while True:
                if isinstance(step, Pause):
                    await sleep(step.seconds)
                    step = next(talk)
                    continue
                try:
                    response = await self._http.send(step)
                except httpx.RequestError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(response)
        except StopIteration as end:
            found: T = end.value
            return found


@dataclass(frozen=True, kw_only=True)
class AsyncPrediction(PredictedInput):
    """What the model said of one input; its maps are fetched from the server, which keeps them for a time."""

    _client: AsyncClient = field(repr=False, compare=False)
    _drawings: dict[str, Drawing] = field(default_factory=dict, init=False, repr=False, compare=False)

    async def map(self, name: str, **options: Unpack[MapOptions]) -> AsyncAttentionMap:
        """A map's numbers, whether it was asked for before or not.

        Raises Problem (404 and 410 where the prediction is not kept), ConnectionFailed, UnexpectedAnswer.
        """
        found = await self._client._say(self._client._conversation.map(self, name, options))
        return AsyncAttentionMap(**vars(found), _client=self._client)

    async def load_drawings(self) -> None:
        """Fetch what a notebook shows of the maps; what could not be fetched is said there."""
        await self._client._say(self._client._conversation.drawings(self, self._drawings))

    def _repr_html_(self) -> str:
        return page(self, self._drawings, otherwise="await prediction.load_drawings() fetches it")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AsyncAttentionMap(MapNumbers):
    """A part of a map as numbers, and drawn in the formats its kind has."""

    _client: AsyncClient

    async def png(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """Drawn on the input; a clip's frames in a strip."""
        return await self._draw("png", drawing)

    async def webp(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """Drawn on the input; a clip's frames as an animation."""
        return await self._draw("webp", drawing)

    async def svg(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """A text with its tokens coloured, as a picture."""
        return await self._draw("svg", drawing)

    async def html(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """A text with its tokens coloured, as a page."""
        return await self._draw("html", drawing)

    async def _draw(self, format: str, drawing: DrawOptions) -> bytes:
        return await self._client._say(self._client._conversation.draw(self, format, drawing))
