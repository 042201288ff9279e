"""What a release is: an adapter with a number, where it came from, and the name it is signed under."""

from mimo_fed.release.info import (
    ANCHORS_PATH,
    CHANNELS,
    NO_PARENT,
    ReleaseInfo,
    adapter_path,
    pointer_path,
)

__all__ = ["ANCHORS_PATH", "CHANNELS", "NO_PARENT", "ReleaseInfo", "adapter_path", "pointer_path"]
