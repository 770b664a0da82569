"""Numbers by which kernels know an SAE's activation and input normalisation at compile time."""

RELU, TOPK, THRESHOLD, GATED = range(4)
ACTIVATIONS = {"relu": RELU, "topk": TOPK, "threshold": THRESHOLD, "gated": GATED}
NO_NORM, LAYER_NORM, UNIT_NORM = range(3)
INPUT_NORMS = {"none": NO_NORM, "layer_norm": LAYER_NORM, "unit_norm": UNIT_NORM}
