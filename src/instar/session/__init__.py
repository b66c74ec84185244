"""One run from the outside: assembly, signals, baselines, results, and what a person says to it."""
