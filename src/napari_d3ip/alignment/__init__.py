"""Geometry of a scan found from its own data: how well views left out are predicted, and where the rotation axis is.

Knows measurements, operators and solvers; no files, no priors.
"""
