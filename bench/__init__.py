"""Benchmarks: ratios of one run, written as JSON."""
