"""Reconstruction methods, a function each."""
