"""The commands, by what they are for. Each module registers its own; heavy imports stand inside the functions."""
