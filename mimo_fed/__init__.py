"""MiMo-Fed: federated personalization of a language model that lives on devices."""

__version__ = "0.1.0"
