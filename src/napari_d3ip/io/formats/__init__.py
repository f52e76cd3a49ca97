"""File formats, a module each; `napari_d3ip.io.registry` lists them."""
