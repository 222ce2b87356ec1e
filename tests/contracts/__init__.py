"""What several parts promise: one suite for stores, one for embedders."""
