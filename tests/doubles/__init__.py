"""Servers of the tests: each enforces the rules of the real one and fails loudly on what it does not know."""
