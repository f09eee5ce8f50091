"""The bundle: one folder per model version, the one contract between export and service.

    manifest.json   `Manifest`
    model.onnx      the fused graph: predictions and taps (its weights beside it, where they are large)
    maps/NAME.onnx  taps to maps, one graph per map
    tokenizer.json  text families

A bundle holds no pickle and no code, and nothing that its manifest does not name.
"""

from service.bundle.figures import Agreement, Card, Deviation, Interval, MapScore, Parity
from service.bundle.folder import MODEL, TOKENIZER, BundleError, check_files, digest, first_fault, read
from service.bundle.inputs import ImageInput, PictureInput, TextInput, VideoInput
from service.bundle.manifest import MANIFEST, Description, Family, Manifest, Precision, Provenance
from service.bundle.maps import KIND_AXES, NAME_PATTERN, Kind, MapSpec, Tap, TensorSpec

__all__ = [
    "KIND_AXES",
    "MANIFEST",
    "MODEL",
    "NAME_PATTERN",
    "TOKENIZER",
    "Agreement",
    "BundleError",
    "Card",
    "Description",
    "Deviation",
    "Family",
    "ImageInput",
    "Interval",
    "Kind",
    "Manifest",
    "MapScore",
    "MapSpec",
    "Parity",
    "PictureInput",
    "Precision",
    "Provenance",
    "Tap",
    "TensorSpec",
    "TextInput",
    "VideoInput",
    "check_files",
    "digest",
    "first_fault",
    "read",
]
