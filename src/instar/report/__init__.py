"""What a person sees of a run: the table and figure beside it, the report, the morning after.

`history` reads the archive, `findings` says what follows from it, the other modules only print that.
"""
