"""The runtime on torch."""
