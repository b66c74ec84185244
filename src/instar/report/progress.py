"""`progress.png`: kept current beside the run, by one niced child that alone pays for Matplotlib.

    conductor:  watch(run, facts) ── "draw" ──► child: read the archive read-only, draw, replace progress.png
                close()           ── "last" ──► the same once more, say what it cost, end

The child is begun at the first promotion. It draws at most every 15 s, and rests in proportion to what drawing cost,
so that it takes about 1 % of a core however large the archive grows. It dies with its parent.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.contracts.archive import Fact
from instar.contracts.records import Generation, Trial, TrialState
from instar.contracts.text import printable
from instar.executors.artefacts import write_bytes
from instar.executors.kernel import die_with_parent

if TYPE_CHECKING:
    from instar.run.state import Run

NAME = "progress.png"
LOG = "progress.log"
EVERY_SECONDS = 15.0
REST = 100.0  # seconds of rest per CPU second of drawing
CLOSE_SECONDS = 15.0


class ProgressFigure:
    """Keeps `progress.png` in a run directory current, at no cost to the loop.

    Args:
        home: the run directory.
        say: told in one line, once, when the figure fails; the run goes on.
        clock: seconds, for the pace.

    Attributes:
        cpu_seconds: what the child used, known after `close`; None where there was no child or it failed.
    """

    def __init__(
        self,
        home: Path,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),  # noqa: T201 (people's stream)
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home, self._say, self._clock = home, say, clock
        self._child: subprocess.Popen[bytes] | None = None
        self._failed = self._news = False
        self._words: tuple[str, str] = ("steps", "metric")
        self._told = float("-inf")
        self.cpu_seconds: float | None = None

    def watch(self, run: Run, facts: Sequence[Fact]) -> None:
        """Let the figure follow what was recorded (see `loop.Watcher`); never waits and never raises for the child."""
        if self._failed or not facts:
            return
        self._news = self._news or any(_worth_drawing(fact) for fact in facts)
        if not self._news or self._clock() - self._told < EVERY_SECONDS:
            return
        if self._child is None:
            if len(run.generations) < 2:
                return
            metric = run.parts.lab.metric
            self._words = (metric.unit_of_length, metric.name)
            self._begin()
        self._tell(b"draw\n")
        self._news, self._told = False, self._clock()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Let the figure be drawn a last time and the child end, within `timeout` seconds. Safe to call twice."""
        if self._child is None and self._news and not self._failed:
            self._begin()
        child, self._child = self._child, None
        if child is None:
            return
        try:
            said, _ = child.communicate(b"last\n", timeout=timeout)
        except (subprocess.TimeoutExpired, OSError, ValueError):
            child.kill()
            child.communicate()
            self._fail(f"it did not end within {timeout:g} s")
            return
        if child.returncode:
            self._fail(self._last_words())
        elif not self._failed:
            self.cpu_seconds = float(said.split()[-1]) if said.split() else None

    def _begin(self) -> None:
        """Start the child; its own words go to the run's logs."""
        command = [sys.executable, "-m", "instar.report.progress", str(self._home), *self._words, str(os.getpid())]
        single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        try:
            log = self._home / "logs" / LOG
            log.parent.mkdir(exist_ok=True)
            with log.open("wb") as errors:
                self._child = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    env=os.environ | single | {"MPLBACKEND": "agg"}, start_new_session=True,
                )  # fmt: skip
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
        except OSError as error:
            self._fail(str(error))

    def _tell(self, order: bytes) -> None:
        child = self._child
        if child is None or child.stdin is None:
            return
        try:
            if child.poll() is not None:
                raise BrokenPipeError
            os.write(child.stdin.fileno(), order)
        except BlockingIOError:
            return  # it has orders enough
        except OSError:
            self._fail(self._last_words())

    def _last_words(self) -> str:
        try:
            lines = (self._home / "logs" / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it ended without a word"

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            text = (
                f"{NAME} is no longer drawn: {printable(why, 200)}. The run goes on; see {self._home / 'logs' / LOG}."
            )
            self._say(text)


def _worth_drawing(fact: Fact) -> bool:
    return isinstance(fact, Generation) or (isinstance(fact, Trial) and fact.state is TrialState.SCORED)


# --- the child ------------------------------------------------------------------------------------------------------


def serve(orders: Iterable[str], draw: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> bool:
    """Draw when told to, resting in between; return whether the last order came, not just the end of the stream."""
    ready_at = float("-inf")
    for order in orders:
        last = order.strip() == "last"
        if last or clock() >= ready_at:
            before = time.process_time()
            draw()
            ready_at = clock() + REST * (time.process_time() - before)
        if last:
            return True
    return False


def main(arguments: Sequence[str]) -> int:
    """Serve one run directory: HOME UNIT METRIC PARENT, orders on standard input."""
    die_with_parent(int(arguments[3]))
    os.nice(19)
    from instar.report import figures, history  # here, so that the conductor never loads Matplotlib

    home = Path(arguments[0])

    def draw() -> None:
        seen = history.read_for_progress(home)
        write_bytes(home / NAME, figures.progress(seen, unit=arguments[1], metric=arguments[2]), sync=False)

    if serve(sys.stdin, draw):
        sys.stdout.write(f"cpu_seconds {time.process_time():.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
