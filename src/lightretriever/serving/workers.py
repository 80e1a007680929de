"""The process that watches over several workers: uvicorn's, but that SIGHUP has them reload instead of begin anew."""

from __future__ import annotations

import os
import signal
import sys

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess

from lightretriever.errors import ArtifactError
from lightretriever.serving.log import say


class Workers(Multiprocess):
    """Starts a worker for one that died, passes SIGHUP on, and ends all on SIGTERM and SIGINT."""

    def run(self) -> None:
        """Until a signal says to end. Raises ArtifactError: the workers cannot start."""
        super().run()
        if any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            raise ArtifactError("the workers cannot start: the log above says why")

    def handle_hup(self) -> None:
        """Have every worker open what there is now."""
        if sys.platform == "win32":
            return
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)
        say("workers reload", workers=len(self.processes))
