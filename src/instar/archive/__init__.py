"""The archive: every proposal, trial, generation and account of a run, in one SQLite file.

`open_archive` makes or resumes the file for the one writer; `read_archive` reads it while the writer lives.
"""

from instar.archive.store import SqlArchive, open_archive, read_archive

__all__ = ["SqlArchive", "open_archive", "read_archive"]
