"""The server's log: a line of JSON on standard error for each event, without the text of queries."""

from __future__ import annotations

import logging
import time
from typing import Any

import msgspec

NAME = "lightretriever.serving"


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what was given as ``extra={"fields": {…}}`` stands beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "process": record.process,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said, enc_hook=str).decode()


def log_settings() -> dict[str, Any]:
    """For `logging.config.dictConfig`, in each of the server's processes."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.{JsonLines.__name__}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "mcp": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            NAME: {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        },
    }


def say(event: str, level: int = logging.INFO, failed: BaseException | None = None, **fields: Any) -> None:
    """Log an event. ``failed``: an error, whose traceback is to be in it."""
    logging.getLogger(NAME).log(level, event, exc_info=failed, extra={"fields": fields})
