"""The one family of errors a user may see.

Every message is one sentence that says what is wrong and what to do about it; the command line prints it
on one line (exit code 2) and napari shows it as a notification.
"""


class D3IPError(Exception):
    """Base class: something the user can mend."""


class FileError(D3IPError):
    """A file is missing, truncated, of an unknown layout, or cannot be written."""


class AmbiguousLayoutError(FileError):
    """A file does not say what its axes mean; the caller must (argument or import widget)."""


class MeasurementError(D3IPError):
    """The data or the geometry of a scan cannot be right."""


class SettingsError(D3IPError):
    """A setting is unknown, out of range, or does not fit the measurement."""


class PriorError(D3IPError):
    """A diffusion prior is missing or cannot be loaded."""


class DeviceError(D3IPError):
    """The requested compute device is not there."""
