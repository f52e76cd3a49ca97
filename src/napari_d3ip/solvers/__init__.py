"""Data consistency and classical reconstructions."""
