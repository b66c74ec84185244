"""What the rooms promise one another: protocols, records, the design space, settings, errors and plugins."""
