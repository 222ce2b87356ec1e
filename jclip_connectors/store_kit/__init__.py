"""Code that the stores share."""
