"""Ask a Regard server: predictions of attention models, and the maps behind them as arrays."""

from __future__ import annotations

from regard_client.async_client import AsyncAttentionMap, AsyncClient, AsyncPrediction
from regard_client.client import AttentionMap, Client, Prediction
from regard_client.errors import ConnectionFailed, Overloaded, Problem, RegardError, UnexpectedAnswer
from regard_client.options import DrawOptions, MapOptions, PredictOptions
from regard_client.question import Input
from regard_client.results import (
    ImageInfo,
    Kept,
    Label,
    MapInfo,
    MapSummary,
    ModelInfo,
    ModelSummary,
    TextInfo,
    Timing,
    Verification,
    VideoInfo,
    View,
)

__all__ = [
    "AsyncAttentionMap",
    "AsyncClient",
    "AsyncPrediction",
    "AttentionMap",
    "Client",
    "ConnectionFailed",
    "DrawOptions",
    "ImageInfo",
    "Input",
    "Kept",
    "Label",
    "MapInfo",
    "MapOptions",
    "MapSummary",
    "ModelInfo",
    "ModelSummary",
    "Overloaded",
    "PredictOptions",
    "Prediction",
    "Problem",
    "RegardError",
    "TextInfo",
    "Timing",
    "UnexpectedAnswer",
    "Verification",
    "VideoInfo",
    "View",
]
