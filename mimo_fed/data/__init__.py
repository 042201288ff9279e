"""Text on devices: how it is kept, the demo's devices, and how sets of users are built from real texts.

In go package indices, installed packages, or your own JSON Lines; out come devices, each with texts in three
splits. Nothing here knows of models, rounds or adapters.
"""

from mimo_fed.data.corpus import SPLITS, Corpus, DemoDevice, Split, Text, read_corpus, write_corpus
from mimo_fed.data.extract import load_demo, load_extract, load_manifest
from mimo_fed.data.folder import load_devices
from mimo_fed.data.lots import Role, role_of

__all__ = [
    "SPLITS",
    "Corpus",
    "DemoDevice",
    "Role",
    "Split",
    "Text",
    "load_demo",
    "load_devices",
    "load_extract",
    "load_manifest",
    "read_corpus",
    "role_of",
    "write_corpus",
]
