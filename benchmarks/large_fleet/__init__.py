"""What `benchmarks.operator` puts a fleet through, and what it counts meanwhile."""
