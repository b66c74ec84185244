"""Designs that are files: differences, near-duplicates, merges, and who wrote which line.

Nothing here runs the code, and nothing knows a lab: files are a mapping from paths to texts.
"""
