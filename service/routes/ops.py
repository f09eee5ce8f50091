"""Liveness, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.routes.request import inference, unready

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Whether every model answers and requests are being taken",
    responses={503: {"model": dict[str, str], "description": "Not now; says why."}},
)
async def readyz(request: Request, response: Response) -> dict[str, str]:
    reason = await unready(request)
    if reason is None:
        return {"status": "ready"}
    response.status_code = 503
    return {"status": "not ready", "reason": reason}


@router.get("/metrics", summary="Counters, histograms and gauges for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    # On the event loop, whose state the gauges read; a few milliseconds.
    content, content_type = inference(request).metrics.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"content-type": content_type})
