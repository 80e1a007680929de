"""Long work on an index, one piece at a time, in a thread of its own if need be."""

from __future__ import annotations

from threading import Condition, Thread

from lightretriever.errors import LightRetrieverError, UsageError
from lightretriever.index.rebuild import Rebuild


class Background:
    """What runs, or how the last of it ended.

    Attributes:
        said: what runs, or how the last work failed, for people; "" when all is well.
    """

    def __init__(self) -> None:
        self.said = ""
        self._lock = Condition()  # told of when work ends
        self._work: Rebuild | None = None
        self._thread: Thread | None = None
        self._error: Exception | None = None

    @property
    def running(self) -> bool:
        """Whether there is work under way."""
        return self._work is not None

    def run(self, name: str, work: Rebuild, wait: bool, queue: bool = False) -> None:
        """Do it, here or in a thread.

        Raises:
            UsageError: other work is under way; with ``queue`` it is waited for, however it ends.
            What the work fails with, if it is waited for; else `wait` raises it.
        """
        with self._lock:
            if queue:
                self._lock.wait_for(lambda: self._work is None)
            elif self._work is not None:
                raise UsageError(f"the index is busy {self.said}: wait for that first")
            self._error = None
            if not wait:  # begun before anybody can see it, and join it
                thread = Thread(target=self._do, args=(name, work), name=name, daemon=True)
                thread.start()
                self._thread = thread
            self._work, self.said = work, name
        if wait:
            self._do(name, work)
            self.wait()

    def wait(self) -> None:
        """Until there is no work. Raises what the last failed with, once."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def stop(self) -> None:
        """End the work, done or not."""
        with self._lock:
            work, thread = self._work, self._thread
        if work is not None:
            work.stop()
        if thread is not None:
            thread.join()

    def _do(self, name: str, work: Rebuild) -> None:
        said = ""
        try:
            work.run()
        except LightRetrieverError as error:
            self._error, said = error, f"failed {name}: {error}"
        except Exception as error:
            self._error, said = error, f"failed {name}: {type(error).__name__}: {error}"
        except BaseException:
            said = f"failed {name}: interrupted"
            raise
        finally:
            with self._lock:
                self._work, self.said = None, said
                self._lock.notify_all()
