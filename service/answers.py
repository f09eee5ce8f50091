"""What is said of a prediction: labels, input, maps and their links."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from numpy.typing import NDArray

from service.bundle import KIND_AXES
from service.decode.item import ImageItem, Item, TextItem
from service.decode.view import View as Seen
from service.errors import UnknownOption
from service.job import Outcome
from service.maps import SelectedMap, Selection
from service.predictor import Predictor
from service.render import FORMATS, NUMBERS, Drawing, RenderOptions, render
from service.schemas import (
    ImageInfo,
    Label,
    MapInfo,
    Prediction,
    PredictOptions,
    TextInfo,
    VideoInfo,
    View,
)

Array = NDArray[Any]


def predictions_url(key: str) -> str:
    """Where a kept prediction is."""
    return f"/v1/predictions/{key}"


def prediction(
    predictor: Predictor,
    item: Item,
    outcome: Outcome,
    options: PredictOptions,
    selection: Selection,
    *,
    url: str,
) -> Prediction:
    """One input's part of an answer; raises UnknownOption where the selection does not fit a map."""
    labels = predictor.manifest.labels
    scores = predictor.scores(outcome.logits)
    best = [int(index) for index in (-scores).argsort(kind="stable")[: options.top_k]]
    top = [Label(label=labels[index], score=float(scores[index])) for index in best]
    maps = [outcome.maps[name].select(selection, predicted=best[0]) for name in options.maps]
    return Prediction(
        label=top[0].label,
        score=top[0].score,
        top=top,
        input=input_info(item),
        maps=[
            map_info(
                selected,
                item.view,
                labels,
                links=_links(selected, predictor, url),
                inline=options.inline,
            )
            for selected in maps
        ],
    )


def input_info(item: Item) -> TextInfo | ImageInfo | VideoInfo:
    """What was decoded."""
    if isinstance(item, TextItem):
        return TextInfo(
            tokens=list(item.tokens),
            offsets=list(item.offsets),
            segments=list(item.segments),
            special=list(item.special),
            truncated=item.truncated,
            dropped_tokens=item.dropped_tokens,
        )
    view = View(
        width=item.view.width,
        height=item.view.height,
        model_width=item.view.model_width,
        model_height=item.view.model_height,
        seen=item.view.seen,
    )
    if isinstance(item, ImageItem):
        return ImageInfo(format=item.format, view=view)
    return VideoInfo(
        format=item.format,
        view=view,
        frames=item.total,
        duration=item.duration,
        sampled=list(item.indices),
        timestamps=list(item.timestamps),
    )


def map_info(
    selected: SelectedMap,
    view: Seen | None,
    labels: tuple[str, ...],
    *,
    links: dict[str, str],
    inline: bool,
) -> MapInfo:
    """What a selected map is; `view` is how the model saw the picture or clip it is of."""
    affine = None
    if view is not None and KIND_AXES[selected.spec.kind][-2:] == ("row", "column"):
        rows, columns = selected.values.shape[-2:]
        affine = view.affine(rows=rows, columns=columns)
    return MapInfo(
        name=selected.spec.name,
        kind=selected.spec.kind,
        description=selected.spec.description,
        shape=list(selected.values.shape),
        axes=list(selected.axes),
        layers=selected.layers,
        heads=selected.heads,
        target=None if selected.target is None else labels[selected.target],
        range=selected.range,
        affine=affine,
        values=selected.values.tolist() if inline else None,
        links=links,
    )


def _links(selected: SelectedMap, predictor: Predictor, url: str) -> dict[str, str]:
    """A link for each format that can show this selection."""
    query: dict[str, str] = {}
    if selected.spec.layers:
        query["layer"] = _word(selected.layers)
    if selected.heads is not None:
        query["head"] = _word(selected.heads)
    if selected.target is not None:
        query["target"] = predictor.target_word(selected.target)
    suffix = f"?{urlencode(query)}" if query else ""
    formats = FORMATS[selected.spec.kind] if selected.drawable else NUMBERS
    return {name: f"{url}/maps/{quote(selected.spec.name)}.{name}{suffix}" for name in formats}


def _word(chosen: str | int | list[int]) -> str:
    return ",".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen)


def write_numbers(selected: SelectedMap, view: Seen | None, labels: tuple[str, ...], format: str) -> Drawing:
    """A selected map as `npy`, or as `json` with what it is."""
    if format == "npy":
        buffer = io.BytesIO()
        np.save(buffer, selected.values, allow_pickle=False)
        return Drawing(body=buffer.getvalue(), media_type="application/octet-stream")
    info = map_info(selected, view, labels, links={}, inline=True)
    body = info.model_dump_json(exclude={"links"}, exclude_none=True).encode()
    return Drawing(body=body, media_type="application/json")


def write_drawing(
    selected: SelectedMap,
    item: Item,
    labels: tuple[str, ...],
    format: str,
    drawing: RenderOptions,
    importance: Array | None,
) -> Drawing:
    """A selected map drawn on its input; raises UnknownOption where more than the map's own axes is left."""
    if not selected.drawable:
        left = next(axis for axis in selected.axes if axis not in KIND_AXES[selected.spec.kind])
        raise UnknownOption(
            f"a drawing shows one {left}: choose it, or ask for json or npy", field=left, limit=1
        )
    return render(
        selected.spec.kind,
        selected.values,
        item,
        format,
        drawing,
        importance=importance,
        title=_title(selected, labels),
        fixed_range=selected.spec.fixed_range,
    )


def _title(selected: SelectedMap, labels: tuple[str, ...]) -> str:
    parts = [selected.spec.name]
    if isinstance(selected.layers, int):
        parts.append(selected.spec.layers[selected.layers])
    if isinstance(selected.heads, int):
        parts.append(f"head {selected.heads}")
    elif selected.heads is not None:
        parts.append(f"{selected.heads} of heads")
    if selected.target is not None:
        parts.append(labels[selected.target])
    return ", ".join(parts)
