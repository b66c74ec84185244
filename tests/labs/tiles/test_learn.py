"""Training: sources keep exam states out, the loss falls, and a seed fixes the weights."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from instar.labs.tiles import learn, model, partition, rules

torch.set_num_threads(1)


def trained(config: learn.TrainConfig, value_head: bool = False) -> tuple[model.PolicyNetwork, np.ndarray]:
    policy = model.PolicyNetwork(model.PolicyConfig(3, 32, 1, value_head), torch.Generator().manual_seed(1))
    return policy, learn.train(policy, learn.Walks(3, 15), config)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_loss_falls(bfloat16: bool) -> None:
    _, losses = trained(learn.TrainConfig(steps=60, batch=256, bfloat16=bfloat16))
    assert losses.shape == (60,)
    assert np.isfinite(losses).all()
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()


def test_a_seed_fixes_the_weights() -> None:
    first, second, other = (
        trained(learn.TrainConfig(steps=8, batch=64, seed=seed))[0].head.weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_optimiser_is_pytorchs_adamw() -> None:
    torch.manual_seed(0)
    own = [torch.randn(5, 3), torch.randn(3, 2)]
    theirs = [p.clone().requires_grad_() for p in own]
    optimiser = learn.AdamW(own, weight_decay=0.1)
    other = torch.optim.AdamW(theirs, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    for rate in (0.1, 0.05, 0.01):
        for parameter in theirs:
            parameter.grad = torch.randn_like(parameter)
        # The kernel reads numbers as they lie in memory, and a gradient may lie there in another order.
        optimiser.step([p.grad.T.clone().T for p in theirs if p.grad is not None], rate)
        other.param_groups[0]["lr"] = rate
        other.step()
    for mine, his in zip(own, theirs, strict=True):
        assert torch.equal(mine, his)


def test_training_does_not_import_the_compiler() -> None:
    """It would be imported anew by every forked trial, and cost more than the training of a low rung."""
    script = (
        "import sys; from instar.labs.tiles import learn, model; "
        "policy = model.PolicyNetwork(model.PolicyConfig(3, 32, 1)); "
        "learn.train(policy, learn.Walks(3, 8), learn.TrainConfig(steps=2)); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0


def test_the_value_head_learns_the_length() -> None:
    policy, _ = trained(learn.TrainConfig(steps=100, batch=256, value_weight=1.0), value_head=True)
    boards, _ = rules.walks(3, 500, 3, np.random.default_rng(0))
    far, _ = rules.walks(3, 500, 15, np.random.default_rng(0))
    value = model.Inference(policy, bfloat16=False)
    assert value(boards)[:, 4].mean() + 0.3 < value(far[-500:])[:, 4].mean()


def test_no_source_gives_a_held_out_state() -> None:
    rng = np.random.default_rng(0)
    boards, moves = rules.walks(4, 500, 40, rng)
    assert partition.held_out(boards).any()
    stored = learn.Pairs(learn.Batch(boards, moves, np.ones(len(moves), dtype=np.int16)))
    walks = learn.Walks(4, 40)
    mixture = learn.Mixture([stored, walks], [0.25, 0.75])
    for source in (stored, walks, mixture):
        batch = source.draw(5_000, rng)
        assert batch.boards.shape == (5_000, 16)
        assert len(batch) == 5_000
        assert not partition.held_out(batch.boards).any()
        assert not partition.held_out(rules.reflect(batch.boards)).any()


def test_walks_can_draw_more_than_they_make_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn.Walks, "WALKS", 4)
    batch = learn.Walks(5, 3).draw(50, np.random.default_rng(0))
    assert len(batch) == 50
    assert batch.lengths.max() <= 3
    assert rules.legal(batch.boards)[np.arange(50), batch.moves].all()


def test_shares_must_add_up_and_something_must_be_left() -> None:
    with pytest.raises(ValueError, match="adding up to 1"):
        learn.Mixture([learn.Walks(3, 5)], [0.5])
    board = rules.uniform(3, 200, np.random.default_rng(0))
    held = board[partition.held_out(board)]
    with pytest.raises(ValueError, match="no pair"):
        learn.Pairs(learn.Batch(held, np.zeros(len(held), dtype=np.int8), np.zeros(len(held), dtype=np.int16)))
    with pytest.raises(ValueError, match="positive"):
        learn.TrainConfig(steps=0)
