"""What an update goes through before it is sealed, and a sum after it is opened.

In: an update as one float32 vector per shell, and a handful of statistics. Out: integers modulo q, for secure
aggregation; and back, from opened sums to floats. Pure functions of their arguments.

Does not know: which parameter an entry belongs to, who sends, how sums are encrypted, or what they are for.
No differential privacy yet: the `research` profile bounds each device and adds no noise.
"""

from mimo_fed.privacy.clip import clip
from mimo_fed.privacy.flatten import flatten, padded_length, unflatten
from mimo_fed.privacy.quantize import MODULUS, VectorEncoding
from mimo_fed.privacy.statistics import StatisticsEncoding

__all__ = [
    "MODULUS",
    "StatisticsEncoding",
    "VectorEncoding",
    "clip",
    "flatten",
    "padded_length",
    "unflatten",
]
