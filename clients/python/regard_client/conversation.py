"""What is said to a server and how its answers are understood, whoever sends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import httpx

from regard_client.documents import read
from regard_client.errors import ConnectionFailed, Overloaded, Problem, RegardError, UnexpectedAnswer
from regard_client.notebook import Drawing, best_format
from regard_client.numbers import MapNumbers, from_info, from_npy
from regard_client.options import spelled
from regard_client.question import Question, model_path
from regard_client.results import MapInfo, MapSummary, ModelInfo, ModelSummary, PredictedInput
from regard_client.retries import Retries, Talk

IDLE_SECONDS = 2.0  # less than the five after which the server closes a connection
AXES = "x-map-axes"  # of an array's axes, between commas
NOTEBOOK_SIZE = 320  # pixels of the long side


def http_settings(base_url: str, *, api_key: str | None, timeout: float) -> dict[str, Any]:
    """What httpx is told; raises ValueError for a key that no header can hold."""
    headers = {"user-agent": f"regard-client/{version('regard-client')}"}
    if api_key is not None:
        if not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
            raise ValueError("api_key: empty, or with spaces, line breaks or others that no header can hold")
        headers["authorization"] = f"Bearer {api_key}"
    return {
        "base_url": base_url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, pool=None),  # waiting for one's own connections is no failure
        "limits": httpx.Limits(
            max_connections=100, max_keepalive_connections=20, keepalive_expiry=IDLE_SECONDS
        ),
    }


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Talks with one server; `build` makes a request of it."""

    build: Callable[..., httpx.Request]
    retries: Retries
    _maps: dict[tuple[str, str], Mapping[str, MapSummary]] = field(default_factory=dict)

    def models(self) -> Talk[tuple[ModelSummary, ...]]:
        """What is served."""
        document = yield from self._json(self.build("GET", "/v1/models"))
        return tuple(read(ModelSummary, one) for one in _list(document, "models"))

    def model(self, name: str, version: str | None = None) -> Talk[ModelInfo]:
        """One model."""
        document = yield from self._json(self.build("GET", model_path(name, version)))
        return read(ModelInfo, document)

    def predict(self, question: Question) -> Talk[list[PredictedInput]]:
        """One prediction for each input, in order."""
        document = yield from self._json(self.build("POST", question.path, **question.body))
        found = _list(document, "predictions")
        if len(found) != question.inputs:
            raise UnexpectedAnswer(f"{len(found)} predictions for {question.inputs} inputs")
        request = {name: document.get(name) for name in ("id", "model", "version", "timing")}
        return [
            read(PredictedInput, {**_dict(one), **request, "index": index}) for index, one in enumerate(found)
        ]

    def map(self, prediction: PredictedInput, name: str, options: Mapping[str, Any]) -> Talk[MapNumbers]:
        """A map's numbers. They come in a document that says what they are where that cannot be known.

        So it is with tokens that are not the input's, and with a model that is not served any more.
        """
        summary = yield from self._summary(prediction, name)
        if summary is None or options.get("words") or options.get("special") == "hide":
            document = yield from self._json(self._get(prediction, name, "json", options))
            return from_info(read(MapInfo, document), summary, options, prediction)
        response = yield from self.retries.exchange(self._get(prediction, name, "npy", options))
        return from_npy(response.content, response.headers.get(AXES, ""), summary, options, prediction)

    def draw(self, numbers: MapNumbers, format: str, drawing: Mapping[str, Any]) -> Talk[bytes]:
        """The same part of a map as a picture or page."""
        options = {**numbers.options, **drawing}
        request = self._get(numbers.prediction, numbers.name, format, options)
        response = yield from self.retries.exchange(request)
        return response.content

    def drawings(self, prediction: PredictedInput, found: MutableMapping[str, Drawing]) -> Talk[None]:
        """Put drawings of an answer's maps into `found`, without those it has; never waits to try again."""
        once, silent = Retries(count=0, seconds=0), ""
        for info in prediction.maps:
            if info.name in found and found[info.name].body:
                continue
            format = best_format(info)
            link = None if format is None else _own_link(info.links[format])
            if format is None or link is None:
                found[info.name] = Drawing(failure="there is no drawing of this part of it")
                continue
            if silent:
                found[info.name] = Drawing(failure=silent)
                continue
            size = {} if format == "svg" else {"size": str(NOTEBOOK_SIZE)}
            try:
                request = self.build("GET", str(link.copy_merge_params(size)))
                response = yield from once.exchange(request)
                found[info.name] = Drawing(format=format, body=response.content)
            except RegardError as error:
                found[info.name] = Drawing(failure=str(error))
                if isinstance(error, ConnectionFailed | Overloaded):
                    silent = str(error)

    def _summary(self, prediction: PredictedInput, name: str) -> Talk[MapSummary | None]:
        """What the model says of a map, None where it is not there to say it; asked for once."""
        place = prediction.model, prediction.version
        if name not in self._maps.get(place, {}):
            try:
                model = yield from self.model(*place)
            except Problem as problem:
                if problem.status != HTTPStatus.NOT_FOUND:
                    raise
                return None
            self._maps[place] = {one.name: one for one in model.maps}
        return self._maps[place].get(name)

    def _get(
        self, prediction: PredictedInput, name: str, format: str, options: Mapping[str, Any]
    ) -> httpx.Request:
        where = (
            f"/v1/predictions/{quote(prediction.id, safe='')}/{prediction.index}/maps/{quote(name, safe='')}"
        )
        return self.build("GET", f"{where}.{format}", params=spelled(options))

    def _json(self, request: httpx.Request) -> Talk[dict[str, Any]]:
        response = yield from self.retries.exchange(request)
        try:
            return _dict(response.json())
        except (ValueError, RecursionError):
            raise UnexpectedAnswer(f"{request.method} {request.url}: the answer is no JSON") from None


def _own_link(link: str) -> httpx.URL | None:
    """A link into the API; None where it leads elsewhere, where the key must not be sent."""
    try:
        url = httpx.URL(link)
    except httpx.InvalidURL:
        return None
    inside = url.path.startswith("/v1/") and ".." not in url.path.split("/")
    return url if url.is_relative_url and not url.host and inside else None


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnexpectedAnswer(f"the server's answer has {str(value)[:80]!r} for an object")
    return value


def _list(document: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise UnexpectedAnswer(f"the server's answer has {str(value)[:80]!r} for {name}")
    return value
