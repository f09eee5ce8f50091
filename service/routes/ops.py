"""Liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", summary="Whether every model is loaded and jobs are being taken")
async def readyz(request: Request, response: Response) -> dict[str, str]:
    if request.app.state.inference.ready:
        return {"status": "ready"}
    response.status_code = 503
    return {"status": "not ready"}
