"""All tolerances of tests and checks, each with its reason.

Errors are relative in the L2 norm, ‖x - reference‖ / ‖reference‖, against a float64 run of the
reference on the same weights.
"""

# PyTorch's own float32 is 0.9-1.4e-6 away from float64 (summation order); a wrong padding, epsilon
# or head order is 1e-3 or more. Matrix precision must be "highest": TF32 alone costs 1e-3.
FP32_PARITY = 3e-6

# Codec with precision="fast": Winograd's F(4×4, 3×3) adds numbers 8 times as large as its results
# (8.0e-6 observed at full size).
FP32_FAST = 2e-5

# A border row or column has few pixels, so errors average out less.
FP32_BORDER = 2 * FP32_PARITY

# The golden vectors are float64 results that were stored as float32 (2⁻²⁴ = 6e-8).
FP32_STORAGE = 1e-7

# The error of the mean in a norm, which float32 represents with 24 bits.
FP32_MEAN = 2**-23

# On the same vectors our float32 error may be at most this many times PyTorch's.
FP32_AGAINST_TORCH = 2.0

# bfloat16 has 8 significant bits, so errors of 1-2e-2 are normal: this is relative to PyTorch's
# own error. Of all stages of trained and random models the largest ratio is 1.03; convolutions that
# round before their bias too have 1.2 on trained weights, whose errors are single roundings.
BF16_AGAINST_TORCH = 1.2

# Two roundings of bfloat16 (2⁻⁹ = 2e-3 each): single blocks computed in another order.
BF16_ROUNDINGS = 4e-3

# A decoder with mirrored kernels commutes with flips up to the order of float32 sums (2.6e-6
# observed).
EQUIVARIANCE = 1e-5

# Random kernels that are not mirrored do not commute at all (1.2 observed). A smaller measured
# error means that the measure is broken.
NOT_EQUIVARIANT = 0.1

# A gradient through VGG16 passes its convolutions twice, and a relu or pooling may choose another
# input after rounding (3.1e-6 observed); a wrong network has errors of 1e-2 or more.
VGG_GRADIENT = 1e-5

# A loss is a mean over some ten thousand float32 terms, and a gradient a product of a few.
FP32_LOSS = 1e-5

# Splitting a batch over devices or micro-batches changes the order of sums.
SUM_ORDER = 1e-5
