"""Napari dock widgets: Qt and layers, no numerics; small widgets do not depend on each other."""
