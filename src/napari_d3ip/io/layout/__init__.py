"""What the axes and values of raw arrays mean: a measurement, or a question."""
