"""Executors run jobs in directories of their own: `inline` in this process (debugging), `local` in forked processes.

Read `local` (the conductor's side), then `forkserver` (slots and queue), `supervisor` (watches one job) and
`child` (becomes the job). `job_directory` makes and measures the directories; `kernel` asks the operating system.
"""
