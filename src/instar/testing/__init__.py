"""A conformance suite per protocol, for plugins of your own; and the red team."""
