"""MT-Bench, and NLP benchmarks through lm-eval."""
