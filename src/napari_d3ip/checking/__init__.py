"""What is wrong with the description of a scan, found by views or lines that no description has seen."""

from napari_d3ip.checking.run import Report, Suggestion, check

__all__ = ["Report", "Suggestion", "check"]
