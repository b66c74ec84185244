"""From evidence to a decision: each gate can refuse, and all must agree."""
