"""How problems become answers: `application/problem+json`, and under /v2 the protocol's own shape."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.errors import InvalidInput, Overloaded, Problem, Unauthorized

CLIENT_CLOSED_REQUEST = 499  # nginx's number: nobody reads the answer, but logs and metrics tell


def problem_response(problem: Problem, path: str) -> JSONResponse:
    """A problem as the answer to a request for this path."""
    headers = {}
    if isinstance(problem, Overloaded):
        headers["retry-after"] = str(problem.retry_after or 1)
    if isinstance(problem, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return _answer(problem.document(), path, headers)


def add_handlers(app: FastAPI) -> None:
    """Let an application answer in this way whatever its routes raise."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _left)


def _answer(document: dict[str, str | int | float], path: str, headers: dict[str, str]) -> JSONResponse:
    status = int(document["status"])
    if path == "/v2" or path.startswith("/v2/"):
        return JSONResponse({"error": document["detail"]}, status, headers)
    return JSONResponse(document, status, headers, media_type="application/problem+json")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error, request.scope["path"])


async def _invalid(request: Request, error: Exception) -> Response:
    """Path and query parameters that the framework itself refused."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return problem_response(InvalidInput(f"{field}: {first['msg']}", field=field), request.scope["path"])


async def _http(request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    document: dict[str, str | int | float] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": error.detail,
    }
    return _answer(document, request.scope["path"], dict(error.headers or {}))


async def _left(request: Request, error: Exception) -> Response:
    """A client that went away."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)
