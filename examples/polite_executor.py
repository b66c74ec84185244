"""Runs jobs as `local` does, in half of the slots: `instar run tiles --executor examples/polite_executor.py`."""

from instar.executors.local import LocalExecutor


class PoliteExecutor(LocalExecutor):
    """An executor of one's own keeps `submit`, `wait`, `cancel` and `close`; this one only counts beside."""

    submitted = 0

    def submit(self, job):
        self.submitted += 1
        super().submit(job)


def create(slots, root, preload, *, hidden=(), unsafe_no_sandbox=False):
    return PoliteExecutor(max(1, slots // 2), root, preload, hidden=hidden, unsafe_no_sandbox=unsafe_no_sandbox)
