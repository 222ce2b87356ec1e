"""The APIs that the server understands: one module for each, all with the same type of request."""
