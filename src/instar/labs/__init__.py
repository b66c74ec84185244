"""Room: labs."""
