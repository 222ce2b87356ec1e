"""The command `jclip`."""
