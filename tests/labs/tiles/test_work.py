"""What runs in the training sandbox: where batches come from, and that no exam state is among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instar.executors.artefacts import read_arrays, write_arrays
from instar.labs.tiles import partition, playing, rules, work
from instar.labs.tiles.model import PolicyConfig, PolicyNetwork


def job_dir(path: Path) -> Path:
    for name in ("in", "out"):
        (path / name).mkdir()
    return path


def payload(**design: object) -> dict[str, object]:
    return {"size": 3, "files": 0, "seed": 1, "effort": 1.0, "threads": 1, "design": {"source": "walks", **design}}


def test_walks_show_no_exam_state() -> None:
    batch = work._source(Path("/nowhere"), payload(), fresh=True).draw(20_000, np.random.default_rng(0))
    assert len(batch) == 20_000
    assert not partition.held_out(batch.boards).any()


def test_own_experience_is_needed_and_exam_states_in_it_are_dropped(tmp_path: Path) -> None:
    design = {"source": "own", "replay": 0.5}
    with pytest.raises(ValueError, match="no experience"):
        work._source(tmp_path, payload(**design), fresh=False)
    boards = rules.uniform(3, 500, np.random.default_rng(0))
    pairs = {"boards": boards, "moves": np.zeros(500, np.int8), "lengths": np.ones(500, np.int16)}
    for number in range(3):
        write_arrays(tmp_path / f"experience-{number:03d}", pairs, sync=False)
    source = work._source(tmp_path, payload(**design) | {"files": 3}, fresh=False)
    assert partition.held_out(boards).any()
    assert not partition.held_out(source.draw(2_000, np.random.default_rng(1)).boards).any()


def test_walks_alone_teach_a_fresh_network_and_both_a_parents(tmp_path: Path) -> None:
    boards = np.repeat(rules.scramble(4, np.full(50, 30), np.random.default_rng(0)), 40, axis=0)
    pairs = {"boards": boards, "moves": np.zeros(2000, np.int8), "lengths": np.full(2000, 200, np.int16)}
    write_arrays(tmp_path / "experience-000", pairs, sync=False)
    given = payload(source="both", walk_share=0.2, replay=0.5) | {"files": 1, "size": 4}
    own = {}
    for fresh in (True, False):
        batch = work._source(tmp_path, given, fresh).draw(2_000, np.random.default_rng(1))
        own[fresh] = float((batch.lengths == 200).mean())
    assert own[True] == 0.0
    assert 0.75 < own[False] < 0.85


def test_a_network_that_goes_on_is_tuned_at_its_own_rate() -> None:
    policy = PolicyNetwork(PolicyConfig(4, 16, 0, True))
    assert policy.untrained
    shape = {"width": 16, "compute": 1.0, "batch": 64, "weight_decay": 0.1, "ema": 0.0, "symmetry": True}
    rates = payload(learning_rate=4e-3, tuning_rate=5e-4, **shape) | {"size": 4}
    assert work._config(policy, rates, fresh=True).learning_rate == 4e-3
    assert work._config(policy, rates, fresh=False).learning_rate == 5e-4
    one = payload(learning_rate=4e-3, **shape)
    assert work._config(policy, one, fresh=False).learning_rate == 4e-3


def test_founding_collecting_and_solving_leave_answers_of_the_right_form(tmp_path: Path) -> None:
    founder = job_dir(tmp_path)
    design = {"width": 16, "blocks": 0, "value_head": False, "reuse": True, "attempts": 20, "search_width": 4}
    work.train(founder, payload(**design) | {"effort": 0.0})
    (tmp_path / "b").mkdir()
    teacher = job_dir(tmp_path / "b")
    for name in ("maker", "artefact"):
        (teacher / "in" / name).symlink_to(founder / "out")
    goal = {"depth": 4, "uniform": False}
    tasks = rules.scramble(3, np.full(20, 4), np.random.default_rng(0))
    write_arrays(teacher / "in" / "tasks.safetensors", {"boards": tasks}, sync=False)
    work.collect(teacher, {**payload(**design), "goal": goal, "max_moves": 10})
    answers = read_arrays(teacher / "out" / "answers.safetensors")
    assert set(answers) == {"sequences", "confidence"}
    assert answers["sequences"].shape[0] == 20
    assert ((answers["confidence"] > 0) & (answers["confidence"] <= 1)).all()
    work.solve(teacher, {"board": [1, 2, 3, 4, 5, 6, 0, 7, 8], "width": 16, "max_moves": 10})
    found = read_arrays(teacher / "out" / "answers.safetensors")["sequences"]
    assert playing.replay(np.array([[1, 2, 3, 4, 5, 6, 0, 7, 8]], np.uint8), found)[0].all()
