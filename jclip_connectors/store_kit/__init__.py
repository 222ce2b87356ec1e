"""What the stores are built with."""
