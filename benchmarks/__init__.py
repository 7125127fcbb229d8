"""The course's speed, measured against what a person would use instead: `python -m benchmarks`."""
