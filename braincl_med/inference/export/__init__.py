"""The folder in which a network leaves this program: weights, ONNX, a MONAI bundle, a model card, digests."""
