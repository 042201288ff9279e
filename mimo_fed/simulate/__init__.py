"""Many devices on one machine, on the very drivers, encodings and encryption of production.

In: a base, devices with their text, settings. Out: adapters, what each device chose, and a line a round.

Does not know: torch. Training is `mimo_fed.model`'s, a whole cohort in one pass; and who judges the result.
"""

from mimo_fed.simulate.fleet import MemoryFleet
from mimo_fed.simulate.stores import MemoryJournal, MemoryStore, Stream

__all__ = ["MemoryFleet", "MemoryJournal", "MemoryStore", "Stream"]
