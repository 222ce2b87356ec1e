"""Evaluation: the tables of the models' release notes, computed by the harnesses that made them."""
