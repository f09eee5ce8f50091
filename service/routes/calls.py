"""Calls of a model, by its name alone and by one of its versions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request

ModelCall = Callable[[Request, str, str | None], Awaitable[Any]]


def of_model(
    router: APIRouter,
    path: str,
    *,
    method: str = "GET",
    parameters: Sequence[dict[str, Any]] = (),
    openapi_extra: dict[str, Any] | None = None,
    **options: Any,
) -> Callable[[ModelCall], ModelCall]:
    """Registers a call as `/models/{name}PATH` and as `/models/{name}/versions/{version}PATH`.

    `parameters` are what OpenAPI says of query and headers. Name and version are taken from the request
    itself: there is nothing to check of them, and in a small model's request FastAPI's machinery for that is
    a tenth.
    """

    def register(call: ModelCall) -> ModelCall:
        async def endpoint(request: Request) -> Any:
            return await call(request, request.path_params["name"], request.path_params.get("version"))

        for where, names in (("", ["name"]), ("/versions/{version}", ["name", "version"])):
            described = [*map(_in_path, names), *parameters]
            router.add_api_route(
                f"/models/{{name}}{where}{path}",
                endpoint,
                methods=[method],
                name=call.__name__,
                openapi_extra={**(openapi_extra or {}), "parameters": described},
                **options,
            )
        return call

    return register


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
