"""Diffusion priors: phantoms, network, training, shipped weights."""
