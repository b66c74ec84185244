"""Executors run jobs in rooms of their own: `inline` in this process (debugging), `local` in forked processes.

Read `local` (the conductor's side), then `forkserver` (slots and queue), `supervisor` (watches one job) and
`child` (becomes the job). `rooms` makes and measures the directories; `kernel` asks the operating system.
"""
