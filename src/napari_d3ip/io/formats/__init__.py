"""File formats, one module each; `napari_d3ip.io.registry` lists them."""
