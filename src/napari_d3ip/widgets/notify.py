"""Tell the user of a failure: one sentence in napari's notifications.

Knows nothing of what failed.
"""

from __future__ import annotations

import logging

from napari.utils.notifications import show_error

from napari_d3ip.errors import D3IPError

logger = logging.getLogger(__name__)


def show_failure(error: Exception, doing: str) -> None:
    """Notify of an error.

    Parameters
    ----------
    error : Exception
        What was raised. A `D3IPError` is shown as it is; anything else is a bug, says so, and has its traceback
        logged.
    doing : str
        What was being done, for instance ``"Reconstruction"``.
    """
    if isinstance(error, D3IPError):
        show_error(str(error))
        return
    logger.error("%s failed", doing, exc_info=error)
    reason = (str(error).splitlines() or [""])[0]
    show_error(
        f"{doing}: stopped by an unexpected {type(error).__name__} ({reason}); please report it with the traceback "
        "in the terminal."
    )
