"""What of the machine's memory this process took."""

from __future__ import annotations

import sys


def most_resident() -> int:
    """Bytes of memory that this process held at most; 0 on Windows, which does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
