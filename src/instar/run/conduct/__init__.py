"""Conduct across generations: what untrusted code did and had no leave to do, how often, and when that ends a run."""
