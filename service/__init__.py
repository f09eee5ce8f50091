"""The server: bundles in, predictions and attention maps out; numpy and ONNX Runtime, no torch."""
