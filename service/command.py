"""`regard predict`: the same way through the house as a request, for one file."""

from __future__ import annotations

from pathlib import Path

from service.bundle import Family
from service.choices import PredictOptions
from service.decode.media import sniff
from service.errors import InvalidInput, NotFound
from service.inference import Inference
from service.job import Payload
from service.maps import Selection
from service.predictions import Predictions
from service.predictor import Predictor
from service.refine import Refinement
from service.render import FORMATS, RenderOptions
from service.settings import Settings


async def predict_file(
    settings: Settings, file: Path, *, model: str | None, maps: Path | None, size: int | None
) -> tuple[bytes, list[Path]]:
    """The answer for one file as JSON, and its maps' files in every format, written to the folder `maps`.

    Raises a Problem, BundleError, ProviderError or OSError.
    """
    inference = Inference(settings)
    inference.load()
    payload = read_payload(file)
    predictor = _choose(inference, payload, model)
    manifest = predictor.manifest
    inference.start()
    try:
        names = tuple(spec.name for spec in manifest.maps) if maps is not None else ()
        predictions = Predictions(inference)
        answered = await predictions.predict(predictor, [payload], PredictOptions(maps=names))
        written = (
            []
            if maps is None
            else await _write(predictions, answered.key, predictor, maps, RenderOptions(size=size))
        )
    finally:
        await inference.close()
    return answered.body, written


def read_payload(file: Path) -> Payload:
    """A file as a picture or clip where its bytes are one, else as text; raises InvalidInput."""
    data = file.read_bytes()
    if sniff(data) is not None:
        return Payload(data=data, field="file")
    try:
        return Payload(data=data.decode(), field="file")
    except UnicodeDecodeError:
        raise InvalidInput("the file is neither UTF-8 text nor a picture or clip", field="file") from None


def _choose(inference: Inference, payload: Payload, model: str | None) -> Predictor:
    if model is not None:
        return inference.registry.get(model)
    family = _family(payload)
    for predictor in inference.registry.all():
        if predictor.manifest.family == family:
            return predictor
    raise NotFound(f"no model for {family} is served", field="model")


def _family(payload: Payload) -> Family:
    if isinstance(payload.data, str):
        return "text"
    return "image" if (sniff(payload.data) or "").startswith("image/") else "video"


async def _write(
    predictions: Predictions, key: str, predictor: Predictor, folder: Path, options: RenderOptions
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for spec in predictor.manifest.maps:
        for format in FORMATS[spec.kind]:
            drawing = await predictions.draw(key, 0, spec.name, format, Selection(), Refinement(), options)
            path = folder / f"{spec.name}.{format}"
            path.write_bytes(drawing.body)
            written.append(path)
    return written
