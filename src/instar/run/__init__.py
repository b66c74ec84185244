"""One run from the inside: what `loop.py` names, step by step."""
