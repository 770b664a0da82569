"""Where coefficients and residuals saturate, in every implementation of the op."""

# Norms (sums of squares) stay finite in float32, and a huge request can't leave inf or NaN in KV blocks that other
# requests will get.
MAX_COEFFICIENT = 1e15
MAX_RESIDUAL = 1e16
MIN_NORM = 1e-12  # least divisor of unit_norm, as in torch.nn.functional.normalize
MAX_HALF = 32752.0  # half of float16's range: where a residual would round to inf, with room for what later layers add
