"""What is said of a prediction: labels, input, maps and their links."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from numpy.typing import NDArray

from service.bundle import Precision
from service.choices import PredictOptions
from service.decode.item import ImageItem, Item, TextItem
from service.decode.view import View as Seen
from service.errors import UnknownOption, VerificationFailed
from service.job import Outcome, Proof
from service.maps import SelectedMap, Selection
from service.predictor import Predictor
from service.refine import Refined, Refinement, refine
from service.render import Drawing, RenderOptions, formats, render
from service.schemas import (
    ImageInfo,
    Kept,
    Label,
    MapInfo,
    Prediction,
    TextInfo,
    Verification,
    VideoInfo,
    View,
)
from service.sizes import check_numbers

Array = NDArray[Any]

# The most that fused attention may be away from the explicit one: rounding of sums in fp32, and of values
# that have 11 bits in fp16. Attention itself is not quantised in int8.
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "int8": 1e-4, "fp16": 5e-3}


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
    inputs: int,
) -> Prediction:
    """One input's part of an answer to so many; raises UnknownOption where the selection does not fit a map,
    InvalidInput where there are too many numbers to be `inline`, and VerificationFailed.
    """
    labels = predictor.manifest.labels
    scores = predictor.scores(outcome.logits)
    # Scores of different logits may be equal, as those of two sure sigmoids.
    best = [int(index) for index in (-outcome.logits).argsort(kind="stable")[: options.top_k]]
    top = [Label(label=labels[index], index=index, score=float(scores[index])) for index in best]
    text = item if isinstance(item, TextItem) else None
    maps = [
        refine(outcome.maps[name].select(selection, predicted=best[0]), options.refinement, text)
        for name in options.maps
    ]
    if options.inline:
        check_numbers(sum(one.selected.values.size for one in maps), inputs=inputs, field="inline")
    return Prediction(
        label=top[0].label,
        score=top[0].score,
        top=top,
        input=input_info(item),
        maps=[
            map_info(
                refined,
                item.view,
                labels,
                links=_links(refined.selected, options.refinement, predictor, url),
                inline=options.inline,
            )
            for refined in maps
        ],
        verification=verified(outcome.proof, predictor.manifest.precision),
    )


def verified(proof: Proof | None, precision: Precision) -> Verification | None:
    """What was proven of an answer; raises VerificationFailed where it is beyond the tolerance."""
    if proof is None:
        return None
    tolerance = TOLERANCES[precision]
    if not (proof.row_sum_error <= tolerance and proof.output_error <= tolerance):  # NaN is no proof
        raise VerificationFailed(
            f"the attention of {proof.layer} is not the softmax of its queries and keys: a row's sum is "
            f"{proof.row_sum_error:.1e} from 1, an output {proof.output_error:.1e} from the explicit one",
            field="verify",
            limit=tolerance,
        )
    return Verification(
        layer=proof.layer,
        row_sum_error=proof.row_sum_error,
        output_error=proof.output_error,
        tolerance=tolerance,
        precision=precision,
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
    refined: Refined,
    view: Seen | None,
    labels: tuple[str, ...],
    *,
    links: dict[str, str],
    inline: bool,
) -> MapInfo:
    """What a map is; `view` is how the model saw the picture or clip it is of."""
    selected, text, kept = refined.selected, refined.text, refined.kept
    affine = None
    if view is not None and selected.axes[-2:] == ("row", "column"):
        rows, columns = selected.values.shape[-2:]
        affine = view.affine(rows=rows, columns=columns)
    return MapInfo(
        name=selected.spec.name,
        kind=selected.kind,
        description=selected.spec.description,
        shape=list(selected.values.shape),
        axes=list(selected.axes),
        layers=selected.layers,
        heads=selected.heads,
        target=None if selected.target is None else labels[selected.target],
        token=selected.token,
        rows=selected.rows,
        frame=selected.frame,
        discard=selected.discard or None,
        range=selected.range,
        affine=affine,
        special_mass=refined.special_mass,
        tokens=None if text is None else list(text.tokens),
        offsets=None if text is None else list(text.offsets),
        segments=None if text is None else list(text.segments),
        kept=None if kept is None else Kept(values=kept.values, share=kept.share),
        values=selected.values.tolist() if inline else None,
        links=links,
    )


def _links(selected: SelectedMap, refinement: Refinement, predictor: Predictor, url: str) -> dict[str, str]:
    """A link for each format that can show this selection."""
    query = refinement.query
    if selected.spec.layers:
        query["layer"] = _word(selected.layers)
    if selected.heads is not None:
        query["head"] = _word(selected.heads)
    if selected.target is not None:
        query["target"] = predictor.target_word(selected.target)
    if selected.rows is not None:
        query["rows"] = "{}:{}".format(*selected.rows)
    chosen = {"token": selected.token, "frame": selected.frame, "discard": selected.discard or None}
    query |= {name: str(value) for name, value in chosen.items() if value is not None}
    suffix = f"?{urlencode(query)}" if query else ""
    known = formats(selected.kind, several=selected.several)
    return {name: f"{url}/maps/{quote(selected.spec.name)}.{name}{suffix}" for name in known}


def _word(chosen: str | int | list[int]) -> str:
    """Layers or heads as they stand in a query: "0" is one, "0," a list of one."""
    if not isinstance(chosen, list):
        return str(chosen)
    return ",".join(map(str, chosen)) + ("," if len(chosen) == 1 else "")


def write_numbers(refined: Refined, view: Seen | None, labels: tuple[str, ...], format: str) -> Drawing:
    """A map as `npy`, or as `json` with what it is; raises InvalidInput where that would be too long."""
    if format == "npy":
        buffer = io.BytesIO()
        np.save(buffer, refined.selected.values, allow_pickle=False)
        return Drawing(
            body=buffer.getvalue(), media_type="application/octet-stream", axes=refined.selected.axes
        )
    check_numbers(refined.selected.values.size, field="format")
    info = map_info(refined, view, labels, links={}, inline=True)
    body = info.model_dump_json(exclude={"links"}, exclude_none=True).encode()
    return Drawing(body=body, media_type="application/json")


def write_drawing(
    refined: Refined,
    item: Item,
    labels: tuple[str, ...],
    format: str,
    drawing: RenderOptions,
    importance: Array | None,
    query: int | None,
) -> Drawing:
    """A map drawn on its input; raises UnknownOption where a format does not show several layers or heads."""
    selected = refined.selected
    if selected.frame is not None:  # of a slice, also where it was left to be the first
        drawing = replace(drawing, frame=selected.frame)
    known = formats(selected.kind, several=selected.several)
    if format not in known:
        left = selected.axes[0]
        raise UnknownOption(
            f"{format} shows one {left}: choose it, or ask for {', '.join(known)}", field=left, limit=1
        )
    return render(
        selected.kind,
        selected.values,
        refined.text or item,
        format,
        drawing,
        layers=_names(selected.layers, selected.spec.layers),
        heads=_names(selected.heads, [f"head {head}" for head in range(selected.spec.heads or 0)]),
        rows=selected.rows if refined.text is None else None,
        query=refined.place(item, query),
        importance=importance,
        title=_title(selected, labels),
        fixed_range=selected.spec.fixed_range,
    )


def _names(chosen: str | int | list[int] | None, names: Sequence[str]) -> list[str] | None:
    """The names of several layers or heads; None where there is one."""
    return [names[index] for index in chosen] if isinstance(chosen, list) else None


def _title(selected: SelectedMap, labels: tuple[str, ...]) -> str:
    parts = [selected.spec.name]
    if isinstance(selected.layers, int):
        parts.append(selected.spec.layers[selected.layers])
    if isinstance(selected.heads, int):
        parts.append(f"head {selected.heads}")
    elif isinstance(selected.heads, str):
        parts.append(f"{selected.heads} of heads")
    if selected.token is not None:
        parts.append(f"token {selected.token}")
    if selected.frame is not None:
        parts.append(f"frame {selected.frame}")
    if selected.target is not None:
        parts.append(labels[selected.target])
    return ", ".join(parts)
