"""The command line, a module for every command; `napari_d3ip.cli.main` starts it."""
