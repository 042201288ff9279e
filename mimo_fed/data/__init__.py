"""Text on devices: how it is kept, the demo's extract, and how sets are built from package indices."""

from mimo_fed.data.corpus import SPLITS, Corpus, DemoDevice, Split, Text, read_corpus, write_corpus
from mimo_fed.data.extract import load_demo, load_extract

__all__ = [
    "SPLITS",
    "Corpus",
    "DemoDevice",
    "Split",
    "Text",
    "load_demo",
    "load_extract",
    "read_corpus",
    "write_corpus",
]
