"""Every tolerance that tests and checks hold the port to, with its reason.

Errors are relative in the L2 norm, ‖x - reference‖ / ‖reference‖, against a float64 run of the
reference on the same weights.
"""

# PyTorch's own float32 is 0.9-1.4e-6 away from float64 (summation order); a wrong padding, epsilon
# or head order is 1e-3 or more. Matrix precision must be "highest": TF32 alone costs 1e-3.
FP32_PARITY = 3e-6

# Codec's precision="fast": Winograd's F(4×4, 3×3) adds numbers 8 times as large as its results
# (8.0e-6 seen on the full configuration).
FP32_FAST = 2e-5

# A border row or column holds few pixels, over which errors average less.
FP32_BORDER = 2 * FP32_PARITY

# The golden vectors are float64 results that were stored as float32 (2⁻²⁴ = 6e-8).
FP32_STORAGE = 1e-7

# What the mean of a norm's input costs: it is known to 24 bits of its own size.
FP32_MEAN = 2**-23

# On the same vectors our float32 may be at most this many times as far off as PyTorch's.
FP32_AGAINST_TORCH = 2.0

# bfloat16 keeps 8 bits, so errors of 1-2e-2 are its nature: the yardstick is PyTorch's own error.
BF16_AGAINST_TORCH = 1.2

# A stage within a network of so small an error is not judged by that ratio: it is a rounding or two
# (2⁻⁹ = 2e-3 each), and our convolutions round once more than PyTorch's, before the bias. Later
# stages, where errors add up, do not show it; the outputs of the networks have no such allowance.
BF16_ROUNDINGS = 4e-3

# A decoder with mirrored kernels commutes with flips up to the order of float32 sums (2.6e-6 seen).
EQUIVARIANCE = 1e-5

# Unmirrored random kernels do not commute at all (1.2 seen); a measure that cannot tell is broken.
NOT_EQUIVARIANT = 0.1

# A gradient through VGG16 passes its convolutions twice, and a relu or pooling whose inputs are
# equal but for rounding may choose otherwise (3.1e-6 seen); a wrong network is 1e-2 or more.
VGG_GRADIENT = 1e-5

# A loss is a mean over some ten thousand float32 terms, and a gradient a product of few of them.
FP32_LOSS = 1e-5

# Sums over a batch that is split over devices or micro-batches run in another order.
SUM_ORDER = 1e-5
