"""Adaptation of the prior to a scan: adapters, losses, measurement splitting, saved adapters."""
