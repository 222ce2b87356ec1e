"""Programs of other libraries that the benchmarks run in environments of their own."""
