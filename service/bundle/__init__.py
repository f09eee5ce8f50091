"""The bundle: one folder per model version, the one contract between export and service.

    manifest.json   `Manifest`
    model.onnx      the fused graph: predictions and taps (its weights beside it, where they are large)
    maps/NAME.onnx  taps to maps, one graph per map
    tokenizer.json  text families

A bundle holds no pickle and no code, and nothing that its manifest does not name.
"""

from service.bundle.figures import (
    Agreement,
    Blanked,
    Card,
    Deviation,
    Interval,
    JudgedMap,
    MapFigures,
    MapScore,
    Measure,
    Measured,
    Parity,
    Verdict,
)
from service.bundle.folder import MODEL, TOKENIZER, BundleError, check_files, digest, first_fault, read
from service.bundle.inputs import ImageInput, PictureInput, TextInput, VideoInput
from service.bundle.manifest import MANIFEST, Description, Family, Manifest, Precision, Provenance
from service.bundle.maps import (
    KIND_AXES,
    LENGTHS,
    NAME_PATTERN,
    PARAMETERS,
    PROOF,
    TUNED,
    Kind,
    MapSpec,
    ProofSpec,
    Tap,
    TensorSpec,
)

__all__ = [
    "KIND_AXES",
    "LENGTHS",
    "MANIFEST",
    "MODEL",
    "NAME_PATTERN",
    "PARAMETERS",
    "PROOF",
    "TOKENIZER",
    "TUNED",
    "Agreement",
    "Blanked",
    "BundleError",
    "Card",
    "Description",
    "Deviation",
    "Family",
    "ImageInput",
    "Interval",
    "JudgedMap",
    "Kind",
    "Manifest",
    "MapFigures",
    "MapScore",
    "MapSpec",
    "Measure",
    "Measured",
    "Parity",
    "PictureInput",
    "Precision",
    "ProofSpec",
    "Provenance",
    "Tap",
    "TensorSpec",
    "TextInput",
    "Verdict",
    "VideoInput",
    "check_files",
    "digest",
    "first_fault",
    "read",
]
