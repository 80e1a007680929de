"""Long work on an index, one piece at a time, in a thread of its own if need be."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Event, Thread
from typing import TypeAlias

from lightretriever.errors import ArtifactError, LightRetrieverError, UsageError

Work: TypeAlias = Callable[[Event], None]
"""It is given what is set when it shall end, and ends then with `check_stopped`."""


class Background:
    """What runs, or how the last of it ended.

    Attributes:
        said: what runs, or how the last work failed, for people; "" when all is well.
    """

    def __init__(self) -> None:
        self.said = ""
        self._lock = Condition()  # told of when work ends
        self._stopped: Event | None = None  # of the work under way
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def run(self, name: str, work: Work, wait: bool) -> None:
        """Do it, here or in a thread.

        Raises:
            UsageError: other work is under way.
            What the work fails with, if it is waited for; else `wait` raises it.
        """
        stopped = Event()
        with self._lock:
            if self._stopped is not None:
                raise UsageError(f"the index is busy {self.said}: wait for that first")
            self._error = None
            if not wait:  # begun before anybody can see it, and join it
                thread = Thread(target=self._do, args=(name, work, stopped), name=name, daemon=True)
                thread.start()
                self._thread = thread
            self._stopped, self.said = stopped, name
        if wait:
            self._do(name, work, stopped)
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
            stopped, thread = self._stopped, self._thread
        if stopped is not None:
            stopped.set()
        if thread is not None:
            thread.join()

    def _do(self, name: str, work: Work, stopped: Event) -> None:
        said = ""
        try:
            work(stopped)
        except LightRetrieverError as error:
            self._error, said = error, f"failed {name}: {error}"
        except Exception as error:
            self._error, said = error, f"failed {name}: {type(error).__name__}: {error}"
        except BaseException:
            said = f"failed {name}: interrupted"
            raise
        finally:
            with self._lock:
                self._stopped, self.said = None, said
                self._lock.notify_all()


def check_stopped(stopped: Event, where: object) -> None:
    """Raise ArtifactError when work shall end."""
    if stopped.is_set():
        raise ArtifactError(f"{where} was closed before the work in the background was done")
