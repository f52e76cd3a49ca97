"""Napari dock widgets: Qt only, no numerics; the small ones know nothing of each other."""
