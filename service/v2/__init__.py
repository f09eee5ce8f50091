"""The Open Inference Protocol (V2): tensors in and out of HTTP bodies, and what is said of models."""
