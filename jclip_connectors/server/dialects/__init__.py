"""What the server understands: one module for each API, over one type of request."""
