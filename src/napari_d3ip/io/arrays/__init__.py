"""Raw access to files: arrays and attributes, no measurements."""
