"""The server: bundles in, predictions and attention maps out; numpy and ONNX Runtime, no torch."""

import os

# ONNX Runtime reports on its use to its maker unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
