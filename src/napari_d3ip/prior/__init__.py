"""The diffusion prior: phantoms, network, training, shipped weights."""
