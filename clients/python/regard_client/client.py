"""The client that waits for its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import sleep
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


class Client:
    """A Regard server at `base_url`; may be used by several threads at once.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        settings = http_settings(base_url, api_key=api_key, timeout=timeout)
        self._http = httpx.Client(**settings, transport=transport)
        self._conversation = Conversation(
            build=self._http.build_request, retries=Retries(count=retries, seconds=retry_seconds)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._http.base_url}{' closed' if self._http.is_closed else ''}>"

    def close(self) -> None:
        """Close the connections; predictions stay readable, their maps cannot be fetched any more."""
        self._http.close()

    def models(self) -> tuple[ModelSummary, ...]:
        """What is served, and what was refused."""
        return self._say(self._conversation.models())

    def model(self, name: str, *, version: str | None = None) -> ModelInfo:
        """One model: its labels, maps and figures; the highest version if none is given."""
        return self._say(self._conversation.model(name, version))

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is one input, and no sequence of them
        self, model: str, input: Input, *, version: str | None = None, **options: Unpack[PredictOptions]
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        model: str,
        input: Sequence[Input],
        *,
        version: str | None = None,
        **options: Unpack[PredictOptions],
    ) -> list[Prediction]: ...

    def predict(
        self,
        model: str,
        input: Input | Sequence[Input],
        *,
        version: str | None = None,
        **options: Unpack[PredictOptions],
    ) -> Prediction | list[Prediction]:
        """What the model says of an input, or of each of several, in one request and in order.

        An input is a text, a pair of texts in a tuple, the bytes of a picture or clip, or the path of a file.
        Raises Problem, ConnectionFailed and UnexpectedAnswer; TypeError and OSError for what is no input.
        """
        inputs = [input] if isinstance(input, ONE) else list(input)
        question = ask(model, inputs, options, version=version)
        found = self._say(self._conversation.predict(question))
        predictions = [Prediction(**vars(one), _client=self) for one in found]
        return predictions[0] if isinstance(input, ONE) else predictions

    def _say(self, talk: Talk[T]) -> T:
        """Send what a talk wants sent, and let it have the answers."""
        try:
            step = next(talk)
            while True:
                if isinstance(step, Pause):
                    sleep(step.seconds)
                    step = next(talk)
                    continue
                try:
                    response = self._http.send(step)
                except httpx.RequestError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(response)
        except StopIteration as end:
            found: T = end.value
            return found


@dataclass(frozen=True, kw_only=True)
class Prediction(PredictedInput):
    """What the model said of one input; its maps are fetched from the server, which keeps them for a time."""

    _client: Client = field(repr=False, compare=False)
    _drawings: dict[str, Drawing] = field(default_factory=dict, init=False, repr=False, compare=False)

    def map(self, name: str, **options: Unpack[MapOptions]) -> AttentionMap:
        """A map's numbers, whether it was asked for before or not.

        Raises Problem (404 and 410 where the prediction is not kept), ConnectionFailed, UnexpectedAnswer.
        """
        found = self._client._say(self._client._conversation.map(self, name, options))
        return AttentionMap(**vars(found), _client=self._client)

    def _repr_html_(self) -> str:
        failure = ""
        try:
            self._client._say(self._client._conversation.drawings(self, self._drawings))
        except Exception as error:  # a notebook shows what there is, whatever became of the client
            failure = str(error)
        return page(self, self._drawings, otherwise=failure)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionMap(MapNumbers):
    """A part of a map as numbers, and drawn in the formats its kind has."""

    _client: Client

    def png(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """Drawn on the input; a clip's frames in a strip."""
        return self._draw("png", drawing)

    def webp(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """Drawn on the input; a clip's frames as an animation."""
        return self._draw("webp", drawing)

    def svg(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """A text with its tokens coloured, as a picture."""
        return self._draw("svg", drawing)

    def html(self, **drawing: Unpack[DrawOptions]) -> bytes:
        """A text with its tokens coloured, as a page."""
        return self._draw("html", drawing)

    def _draw(self, format: str, drawing: DrawOptions) -> bytes:
        return self._client._say(self._client._conversation.draw(self, format, drawing))
