"""Runs pytest, and asks a test that failed once more, alone: `python -m tests.once_more [ARGUMENTS OF PYTEST]`.

Kills and limits are timed by the wall clock, so one test may fail beside others where it passes alone. That is told at
the end, with its first failure. Two in one run are no accident: then nothing is asked again, and the run fails.
"""

from __future__ import annotations

import subprocess
import sys

import pytest


class Failures:
    """Keeps what failed, in a test or around it, and the reason that pytest gives first."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.others = False  # a module that cannot be collected: no single test is to blame

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.lines.setdefault(report.nodeid, _reason(report.longreprtext))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.others = self.others or report.failed


def _reason(text: str) -> str:
    """Return the line that says what went wrong: the first that pytest marks with E, or the last of all."""
    lines = text.strip().splitlines() or ["no reason was given"]
    return next((line[1:].strip() for line in lines if line.startswith("E ")), lines[-1])


def main(arguments: list[str]) -> int:
    """Run, and return the exit code."""
    failures = Failures()
    code = int(pytest.main(arguments, plugins=[failures]))
    if code != pytest.ExitCode.TESTS_FAILED or failures.others or len(failures.lines) != 1:
        return code
    ((name, line),) = failures.lines.items()
    again = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", name], check=False).returncode
    print(f"\nRERUN: {name}\n  failed first: {line}\n  then alone: {'failed again' if again else 'passed'}")
    return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
