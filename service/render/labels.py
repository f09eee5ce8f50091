"""What the positions of a map are called."""

from __future__ import annotations

from service.decode.item import Item, TextItem, VideoItem
from service.render.lettering import drawable


def labels(item: Item, count: int) -> tuple[str, ...]:
    """Labels of `count` positions: tokens of a text, seconds of a clip's frames, else numbers from 0."""
    if isinstance(item, TextItem) and count == len(item.tokens):
        pieces = zip(item.tokens, item.segments, item.offsets, strict=True)
        return tuple(
            drawable(visible(item.texts[segment][start:end] or token))
            for token, segment, (start, end) in pieces
        )
    if isinstance(item, VideoItem) and count == len(item.timestamps):
        return tuple(f"{seconds:.2f} s" for seconds in item.timestamps)
    return tuple(str(position) for position in range(count))


def visible(text: str) -> str:
    """White space as something that can be seen."""
    shown = text.replace("\r", "").replace("\n", "\\n").replace("\t", "\\t")
    return shown.strip() or "_" * len(shown)
