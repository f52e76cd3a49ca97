"""Scans of discs."""

from tests.alignment.conftest import DiscScan, disc_scan

__all__ = ["DiscScan", "disc_scan"]
