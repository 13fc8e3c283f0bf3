"""A detector leaves Python's weight behind: one ONNX file that has samples in, and score, p-value and decision out."""
