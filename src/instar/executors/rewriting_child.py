"""The process that reads an untrusted file first: two open files, hard limits, and nothing else that it could open.

    python -I -S -c ... NAME SIZE CPU_SECONDS    the file on standard input, what is passed on to standard output

It ends with 0, or with `REFUSED` and the reason on standard error, or with `UNWRITABLE` and the error's number.
"""

from __future__ import annotations

import codecs
import os
import resource
import sys
from typing import NoReturn

from instar.executors import formats
from instar.sandbox.limits import lower

REFUSED, UNWRITABLE = 3, 4
MEMORY_BYTES = 2**29
_DESCRIPTORS = 3  # those that are open: it opens no file, no socket and no pipe any more


def main() -> NoReturn:
    """Write the file anew and exit."""
    name, size, cpu_seconds = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    codecs.lookup("cp437")  # zip: of names that are not UTF-8; later no module can be loaded
    lower(resource.RLIMIT_CPU, cpu_seconds)
    lower(resource.RLIMIT_AS, MEMORY_BYTES)
    lower(resource.RLIMIT_FSIZE, formats.EXPANDED_BYTES + 2**24)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_NOFILE, _DESCRIPTORS)
    try:
        with os.fdopen(0, "rb", closefd=False) as source, os.fdopen(1, "r+b", closefd=False) as target:
            formats.rewrite(name, source, size, target)
    except ValueError as error:
        _leave(REFUSED, str(error))
    except MemoryError:
        _leave(REFUSED, f"reading it takes more than {MEMORY_BYTES} bytes of memory")
    except OSError as error:
        _leave(UNWRITABLE, str(error.errno))
    os._exit(0)


def _leave(code: int, why: str) -> NoReturn:
    os.write(2, why.encode("utf-8", "replace")[:2000])
    os._exit(code)
