"""The adapter: its shape, the factors it begins with, its values, and the vectors that rounds sum.

In: a base's linears and the settings of the adapter; released bytes; a device's delta. Out: released bytes,
the two files of a PEFT LoRA, and one vector a shell.

Does not know: the model that runs it (no torch here), who trained a delta, or that anything is encrypted.
"""

from mimo_fed.adapter.basis import basis, left_basis
from mimo_fed.adapter.exchange import from_peft, to_peft
from mimo_fed.adapter.shells import delta_to_shells, prefix, shells_mask, shells_to_delta
from mimo_fed.adapter.spec import FACTORS, AdapterSpec, Factor, Module, Part, Shell
from mimo_fed.adapter.weights import GlobalAdapter

__all__ = [
    "FACTORS",
    "AdapterSpec",
    "Factor",
    "GlobalAdapter",
    "Module",
    "Part",
    "Shell",
    "basis",
    "delta_to_shells",
    "from_peft",
    "left_basis",
    "prefix",
    "shells_mask",
    "shells_to_delta",
    "to_peft",
]
