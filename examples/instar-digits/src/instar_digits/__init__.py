"""A lab for Instar from outside: the design is a source file and two numbers, the metric is held-out accuracy."""
