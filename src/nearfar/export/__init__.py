"""A detector leaves Python behind: one ONNX file has samples in, and score, p-value and decision out."""
