"""Lab `tiles`: sliding-tile puzzles; a policy network that teaches itself by search and a verifier."""
