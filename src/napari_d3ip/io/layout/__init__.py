"""Interpret axes and values of raw arrays as a measurement, or ask the user."""
