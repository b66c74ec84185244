"""The commands, a module for each group of the help. Each parses, calls a room, prints."""
