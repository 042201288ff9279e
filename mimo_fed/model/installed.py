"""The releases that a device runs: one in the global branch, perhaps one in the cohort's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.errors import ConfigError
from mimo_fed.model.lora import Arm, Branches, Shared


class Installed:
    """What is installed in the shared branches, so that it can be put back exactly.

    Args:
        branches: where it is mounted.
        spec: the global adapter's shape; at first its zero adapter is installed.
        cohort_spec: the cohort adapters' shape; None if the device takes part in no cohort.
    """

    def __init__(self, branches: Branches, spec: AdapterSpec, cohort_spec: AdapterSpec | None) -> None:
        self._branches = branches
        self._specs: dict[Shared, AdapterSpec | None] = {"global": spec, "cohort": cohort_spec}
        zero = GlobalAdapter.zero(spec)
        self._adapters: dict[Shared, GlobalAdapter | None] = {"global": zero, "cohort": None}
        self._digests: dict[Shared, str | None] = {"global": zero.digest(), "cohort": None}

    def read(self, branch: Shared, data: bytes) -> GlobalAdapter:
        """Check the bytes of a release in full.

        Raises:
            ConfigError: it is a cohort's, and the device takes part in no cohort.
            DigestMismatch: not a whole safetensors file.
            SpecMismatch: of another shape, base or basis, or with a value that is not finite.
        """
        spec = self._specs[branch]
        if spec is None:
            raise ConfigError(
                "this device takes part in no cohort", hint="give it the cohort adapters' shape"
            )
        return GlobalAdapter.from_safetensors(data, spec)

    def install(self, branch: Shared, data: bytes | None) -> None:
        """Replace what a branch holds; None takes it away. Raises as `read` does, before anything moves."""
        adapter = None if data is None else self.read(branch, data)
        self._branches.set_shared(branch, adapter)
        self._adapters[branch] = adapter
        self._digests[branch] = None if data is None else hashlib.sha256(data).hexdigest()

    def adapter(self, branch: Shared) -> GlobalAdapter:
        """Return what is installed in a branch.

        Raises:
            ConfigError: nothing is.
        """
        found = self._adapters[branch]
        if found is None:
            raise ConfigError(f"no {branch} adapter is installed")
        return found

    def digest(self, branch: Shared) -> str | None:
        """Return the SHA-256 of what is installed in a branch; None if nothing is."""
        return self._digests[branch]

    def names(self, arm: Arm, *, instead: str | None = None) -> tuple[str | None, ...]:
        """Return the digests of the releases that an arm runs with.

        Args:
            arm: which branches run.
            instead: digest of a release on trial in the arm's own branch.
        """
        if arm == "base":
            return ()
        if arm == "global":
            return (instead or self._digests["global"], None)
        return (self._digests["global"], instead or self._digests["cohort"])

    def restore(self, branch: Shared) -> None:
        """Mount what is installed again."""
        self._branches.set_shared(branch, self._adapters[branch])

    @contextmanager
    def replaced(self, branch: Shared, adapter: GlobalAdapter) -> Iterator[None]:
        """Mount another adapter for a while."""
        try:
            self._branches.set_shared(branch, adapter)
            yield
        finally:
            self.restore(branch)
