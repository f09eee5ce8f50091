"""From a torch model to a verified bundle."""

import os

# ONNX Runtime reports on its use to its maker unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
