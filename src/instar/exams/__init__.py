"""Questions set and marked outside the reach of a candidate: seals, self-test, contamination, similarity."""
