"""Simulate scans, for planning and testing. No files."""

from napari_d3ip.simulate.mri import simulate_kspace
from napari_d3ip.simulate.stack import simulate_stack
from napari_d3ip.simulate.tomography import simulate_sinogram

__all__ = ["simulate_kspace", "simulate_sinogram", "simulate_stack"]
