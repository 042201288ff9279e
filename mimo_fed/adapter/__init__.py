"""The global adapter: its shape, its fixed factor, its values, and the vectors that rounds sum.

In: a base's linears and the settings of the adapter; released bytes; a device's delta. Out: released bytes
that stock PEFT loads, and one vector a shell.

Does not know: the model that runs it (no torch here), who trained a delta, or that anything is encrypted.
"""

from mimo_fed.adapter.basis import basis
from mimo_fed.adapter.shells import delta_to_shells, shell_to_delta
from mimo_fed.adapter.spec import AdapterSpec, Module, Shell
from mimo_fed.adapter.weights import GlobalAdapter

__all__ = ["AdapterSpec", "GlobalAdapter", "Module", "Shell", "basis", "delta_to_shells", "shell_to_delta"]
