"""Report a failure to the user: one sentence in napari's notifications.

No knowledge of what failed.
"""

from __future__ import annotations

import logging

from napari.utils.notifications import show_error

from napari_d3ip.errors import D3IPError

logger = logging.getLogger(__name__)


def show_failure(error: Exception, doing: str) -> None:
    """Notify the user of an error.

    Parameters
    ----------
    error : Exception
        A `D3IPError` is shown as it is; another exception is reported as a bug, with its traceback
        logged.
    doing : str
        Activity that failed, for instance ``"Reconstruction"``.
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
