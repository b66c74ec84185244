"""Greedy play and beam search, with policies that know much, little or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from instar.labs.tiles import learn, model, oracle, playing, rules, search
from instar.labs.tiles.rules import Boards

torch.set_num_threads(1)


def ignorant(boards: Boards) -> search.Floats:
    return np.zeros((len(boards), 4), dtype=np.float32)


def knowing(boards: Boards) -> search.Floats:
    """Rates each move by the optimal length that it leads to."""
    found, scores = oracle.distances(), np.zeros((len(boards), 4), dtype=np.float32)
    for move in range(4):
        can = rules.legal(boards)[:, move]
        scores[can, move] = -found.of(rules.step(boards[can], np.full(can.sum(), move, dtype=np.int8)))
    return 5 * scores


def test_a_perfect_policy_plays_optimally() -> None:
    boards = rules.uniform(3, 200, np.random.default_rng(0))
    optimum = oracle.distances().of(boards)
    for sequences in (search.greedy(knowing, boards, 31), search.beam(knowing, boards, 4, 31)):
        solved, lengths = playing.replay(boards, sequences)
        assert solved.all()
        assert (lengths == optimum).all()
        assert ((sequences >= 0).sum(axis=1) == lengths).all()


def test_a_beam_that_holds_every_state_is_breadth_first_search() -> None:
    found = oracle.distances()
    boards = rules.unpack(np.random.default_rng(0).choice(found.keys[found.lengths == 9], 30), 3)
    solved, lengths = playing.replay(boards, search.beam(ignorant, boards, 2_000, 9))
    assert solved.all()
    assert (lengths == 9).all()
    assert (search.beam(ignorant, boards, 2_000, 8) == rules.PAD).all()


@pytest.mark.parametrize("size", rules.SIZES)
def test_the_beam_solves_short_scrambles_of_every_size(size: int) -> None:
    depths = np.repeat([1, 2, 3, 4, 5], 10)
    boards = rules.scramble(size, depths, np.random.default_rng(0))
    solved, lengths = playing.replay(boards, search.beam(ignorant, boards, 250, 6))
    assert solved.all()
    assert (lengths == depths).all()


def test_boards_already_solved_and_no_boards_need_no_moves() -> None:
    boards = np.repeat(rules.goal(4)[None], 3, axis=0)
    for answer in (search.greedy(ignorant, boards, 5), search.beam(ignorant, boards, 4, 5)):
        assert (answer == rules.PAD).all()
        assert playing.replay(boards, answer)[0].all()
    assert search.beam(ignorant, boards[:0], 4, 5).shape == (0, 5)
    assert search.greedy(ignorant, boards[:0], 5).shape == (0, 5)
    with pytest.raises(ValueError, match="32768"):
        search.beam(ignorant, boards, 0, 5)


def test_greedy_never_undoes_its_last_move() -> None:
    boards = rules.uniform(5, 20, np.random.default_rng(0))
    played = search.greedy(ignorant, boards, 20)
    assert (played >= 0).all()
    assert not (played[:, 1:] == played[:, :-1] ^ 1).any()


@pytest.fixture(scope="module")
def policy() -> model.PolicyNetwork:
    policy = model.PolicyNetwork(model.PolicyConfig(3, 64, 1), torch.Generator().manual_seed(0))
    learn.train(policy, learn.Walks(3, 20), learn.TrainConfig(steps=150, batch=512))
    return policy


def test_one_who_knows_nothing_does_not_profit_from_the_order_of_the_moves() -> None:
    """Two moves away, one of two first moves and one of two next ones (turning back is out) are right."""
    two = rules.unpack(oracle.distances().kept[2], 3)
    assert len(two) == 2
    boards = np.repeat(two, 1000, axis=0)

    def indifferent(boards: Boards) -> search.Floats:
        return np.zeros((len(boards), rules.MOVES), dtype=np.float32)

    solved, _ = playing.replay(boards, search.greedy(indifferent, boards, 2))
    assert 0.2 < solved[:1000].mean() < 0.3
    assert 0.2 < solved[1000:].mean() < 0.3


def test_the_beam_finds_more_and_shorter_solutions_than_greedy(policy: model.PolicyNetwork) -> None:
    boards = rules.scramble(3, np.full(300, 30), np.random.default_rng(1))
    evaluate = model.Inference(policy)
    greedy, _ = playing.replay(boards, search.greedy(evaluate, boards, 40))
    narrow, long = playing.replay(boards, search.beam(evaluate, boards, 8, 40))
    wide, short = playing.replay(boards, search.beam(evaluate, boards, 64, 40))
    assert greedy.mean() < narrow.mean() <= wide.mean()
    assert wide.mean() > 0.95
    both = narrow & wide
    assert short[both].mean() < long[both].mean()


def test_chunks_and_neighbours_do_not_change_an_answer(
    policy: model.PolicyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = rules.scramble(3, np.full(50, 30), np.random.default_rng(2))
    evaluate = model.Inference(policy, bfloat16=False)
    together = playing.replay(boards, search.beam(evaluate, boards, 16, 40))
    monkeypatch.setattr(search, "BOARDS_AT_ONCE", 16 * 7)
    apart = playing.replay(boards, search.beam(evaluate, boards, 16, 40))
    # Rounding depends on the batch, so a near tie may fall otherwise in a board or two.
    assert (together[0] == apart[0]).mean() > 0.95
    assert (together[1] == apart[1]).mean() > 0.9


def test_states_of_a_layer_are_held_once() -> None:
    seen = search._Seen(10)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, 300, dtype=np.uint64)
    repeated = rng.permutation(np.concatenate([keys, keys, keys]))
    first = seen.first(repeated)
    assert len(np.unique(repeated[first])) == 300
    assert first.sum() <= 306  # two slots for each key: few repeats slip through a table this small
    seen.add(keys)
    assert seen.first(keys).mean() < 0.3  # newer keys displaced some


def test_the_fast_path_answers_as_the_module(policy: model.PolicyNetwork) -> None:
    boards = rules.uniform(3, 1_500, np.random.default_rng(0))
    with torch.no_grad():
        exact = policy(learn._onehot(boards, 3, False)).numpy()
    assert np.allclose(model.Inference(policy, bfloat16=False)(boards), exact, atol=1e-4)
    assert np.allclose(model.Inference(policy, bfloat16=True)(boards), exact, atol=0.3)


def test_a_saved_policy_reads_back(policy: model.PolicyNetwork, tmp_path: Path) -> None:
    model.save(policy, tmp_path)
    again = model.load(tmp_path)
    assert again.config == policy.config
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"size": 3, "width": 64, "blocks": 1}', "exactly the keys"),
        ('{"size": 3, "width": 64, "blocks": true, "value_head": false}', "whole numbers"),
        ('{"size": 3, "width": 10000000, "blocks": 1, "value_head": false}', "width"),
        ('{"size": 3, "width": 32, "blocks": 1, "value_head": false}', "bytes"),
        ('{"size": 3, "width": 64, "blocks": 1, "value_head": true}', "safetensors: head"),
        ("[" * 100_000, "config.json"),
    ],
)
def test_a_wrong_configuration_is_refused(policy: model.PolicyNetwork, tmp_path: Path, config: str, why: str) -> None:
    model.save(policy, tmp_path)
    (tmp_path / model.CONFIG).write_text(config)
    with pytest.raises(ValueError, match=why):
        model.load(tmp_path)


def test_weights_that_are_not_finite_or_not_tensors_are_refused(policy: model.PolicyNetwork, tmp_path: Path) -> None:
    broken = model.PolicyNetwork(policy.config)
    with torch.no_grad():
        broken.head.bias[0] = float("nan")
    model.save(broken, tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        model.load(tmp_path)
    path = tmp_path / model.WEIGHTS
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(ValueError, match="not a safetensors file"):
        model.load(tmp_path)
