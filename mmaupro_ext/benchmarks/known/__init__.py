"""One module a benchmark, each with its `BENCHMARK`; whatever lies here is found (docs/benchmarks.md)."""
