import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from geobody.errors import GeobodyError
from geobody.training import checkpoint, loop
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import Batch, RowSampler, fit
from geobody.training.schedule import Schedule

STEPS = 12
SCHEDULE = Schedule(
    steps=STEPS, batch_size=6, learning_rate=1e-2, weight_decay=0.1, warmup_steps=2, clip_norm=1.0
)
PLAIN = Schedule(steps=5, batch_size=2, learning_rate=0.1, weight_decay=0.0, warmup_steps=0, clip_norm=1.0)
DATA = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def network() -> nn.Module:
    """Every kind of state that a checkpoint must carry: channels-last weights, buffers, dropout's draws."""
    with seeded(1, "network"):
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(72, 2),
        )
    return net.to(memory_format=torch.channels_last)


@pytest.fixture
def saves_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``saves_after(4)``: a second passes in each look at the clock, and a checkpoint is due after 4."""

    def set_pause(seconds: float) -> None:
        monkeypatch.setenv(loop.SAVE_SECONDS, str(seconds))
        ticks = itertools.count()
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))

    return set_pause


def train(folder: Path, *, net: nn.Module, kill_at: int | None = None, **options) -> nn.Module:
    def loss_step(batch: Batch):
        if batch.step == kill_at:
            raise KeyboardInterrupt
        images = DATA[batch.rows] + torch.rand(len(batch.rows), 3, 8, 8, generator=batch.generator)
        error = (net(images.to(memory_format=torch.channels_last)) - 1).square().mean()
        return {"total": error, "error": error}

    settings = {"precision": "bf16-mixed", "log_every": 3} | options
    fit(
        modules={"net": net},
        loss_step=loss_step,
        sampler=RowSampler(np.arange(40), seed=0),
        schedule=SCHEDULE,
        seed=0,
        fabric=make_fabric(precision=settings.pop("precision"), threads=1, device="cpu"),
        scratch=folder / "scratch",
        curves=folder / "curves.csv",
        desc="net",
        **settings,
    )
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(a.state_dict()[name], b.state_dict()[name]) for name in a.state_dict())


@pytest.mark.parametrize(("pause", "kill_at", "resumes_at"), [(4, 1, 0), (4, 5, 4), (4, 8, 8), (0, 11, 11)])
def test_killed_and_resumed_equals_undisturbed(tmp_path, capsys, saves_after, pause, kill_at, resumes_at):
    whole = train(tmp_path / "whole", net=network())
    saves_after(pause)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", net=network(), kill_at=kill_at)
    assert capsys.readouterr().err == ""
    cut = train(tmp_path / "cut", net=network())
    assert capsys.readouterr().err == (f"net: goes on from step {resumes_at} of 12\n" if resumes_at else "")
    assert same(whole, cut)
    assert (tmp_path / "cut/curves.csv").read_bytes() == (tmp_path / "whole/curves.csv").read_bytes()


def test_killed_while_a_checkpoint_is_written_resumes_from_the_one_before(
    tmp_path, capsys, saves_after, monkeypatch
):
    whole = train(tmp_path / "whole", net=network())
    saves_after(4)
    save_file = checkpoint.save_file
    calls = []

    def torn(tensors, path, metadata):
        save_file(tensors, path, metadata=metadata)
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", net=network())
    monkeypatch.undo()
    cut = network()
    capsys.readouterr()
    train(tmp_path / "cut", net=cut)
    assert capsys.readouterr().err == "net: goes on from step 4 of 12\n"
    assert same(whole, cut)
    assert (tmp_path / "cut/curves.csv").read_bytes() == (tmp_path / "whole/curves.csv").read_bytes()


def test_a_finished_training_is_not_repeated(tmp_path):
    whole = train(tmp_path, net=network())
    again = train(tmp_path, net=network(), kill_at=0)
    assert same(whole, again)


def test_equals_a_plain_loop_of_adamw(tmp_path):
    net = nn.Linear(3 * 64, 1)
    slow = copy.deepcopy(net)
    weights, biases = [slow.weight], [slow.bias]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}], foreach=False
    )
    schedule, sampler = replace(SCHEDULE, clip_norm=0.5), RowSampler(np.arange(40), seed=0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at(step, group="net")
        loss = slow(DATA[sampler.batch(step, size=6)].flatten(1)).sub(1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(slow.parameters(), 0.5)
        optimizer.step()

    def loss_step(batch: Batch):
        return {"total": net(DATA[batch.rows].flatten(1)).sub(1).square().mean()}

    fit(
        modules={"net": net},
        loss_step=loss_step,
        sampler=sampler,
        schedule=replace(schedule, learning_rate={"net": 1e-2}),
        seed=0,
        fabric=make_fabric(precision="32-true", threads=1, device="cpu"),
        scratch=tmp_path,
        curves=tmp_path / "curves.csv",
        desc="net",
    )
    torch.testing.assert_close(net.weight, slow.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.bias, slow.bias, rtol=1e-5, atol=1e-6)


def test_each_group_moves_only_its_own_network(tmp_path):
    """A "generator" that climbs where its "discriminator" descends: each sees the other as a constant."""
    with seeded(0, "pair"):
        modules = {"discriminator": nn.Linear(4, 1), "generator": nn.Linear(4, 4)}
    before = copy.deepcopy(modules)
    seen = {"discriminator": 0, "generator": 0}

    def loss_step(batch: Batch):
        frozen = {"discriminator": "generator", "generator": "discriminator"}[batch.group]
        assert not any(p.requires_grad for p in modules[frozen].parameters())
        assert all(p.requires_grad for p in modules[batch.group].parameters())
        seen[batch.group] += 1
        score = modules["discriminator"](modules["generator"](torch.ones(2, 4))).mean()
        return {"total": score if batch.group == "discriminator" else -score}

    fit(
        modules=modules,
        loss_step=loss_step,
        sampler=RowSampler(np.arange(4), seed=0),
        schedule=replace(PLAIN, learning_rate={"discriminator": 0.0, "generator": 1e-2}),
        seed=0,
        fabric=make_fabric(precision="32-true", threads=1, device="cpu"),
        scratch=tmp_path,
        curves=tmp_path / "curves.csv",
        desc="pair",
    )
    assert seen == {"discriminator": 5, "generator": 5}
    assert same(modules["discriminator"], before["discriminator"])
    assert not same(modules["generator"], before["generator"])
    assert all(p.requires_grad for module in modules.values() for p in module.parameters())
    assert not any(module.training for module in modules.values())
    header = (tmp_path / "curves.csv").read_text().splitlines()[0]
    assert header == "step,discriminator_total,generator_total"


def test_curves_hold_means_over_windows_and_the_rest(tmp_path):
    net = nn.Linear(1, 1)

    def loss_step(batch: Batch):
        return {"total": net.weight.sum() * 0 + batch.step, "steps": torch.tensor(float(batch.step))}

    fit(
        modules={"net": net},
        loss_step=loss_step,
        sampler=RowSampler(np.arange(4), seed=0),
        schedule=replace(PLAIN, learning_rate=0.0),
        seed=0,
        fabric=make_fabric(precision="32-true", threads=1, device="cpu"),
        scratch=tmp_path,
        curves=tmp_path / "curves.csv",
        desc="net",
        log_every=2,
    )
    assert (tmp_path / "curves.csv").read_text() == "step,total,steps\n2,0.5,0.5\n4,2.5,2.5\n5,4,4\n"


def test_a_loss_that_is_not_finite_names_stage_and_step(tmp_path):
    net = nn.Linear(1, 1)

    def loss_step(batch: Batch):
        return {"total": net.weight.sum() * (math.nan if batch.step == 3 else 1.0)}

    with pytest.raises(GeobodyError, match=r"^encdec: .*'net' is not finite at step 3 \(total\)"):
        fit(
            modules={"net": net},
            loss_step=loss_step,
            sampler=RowSampler(np.arange(4), seed=0),
            schedule=PLAIN,
            seed=0,
            fabric=make_fabric(precision="32-true", threads=1, device="cpu"),
            scratch=tmp_path,
            curves=tmp_path / "curves.csv",
            desc="encdec",
        )


def test_batches_depend_on_seed_and_step_alone():
    forward = [RowSampler(np.arange(10, 20), seed=5).batch(step, size=4) for step in range(9)]
    sampler, other = RowSampler(np.arange(10, 20), seed=5), RowSampler(np.arange(10, 20), seed=6)
    backward = [sampler.batch(step, size=4) for step in reversed(range(9))]
    np.testing.assert_array_equal(forward, backward[::-1])
    assert not np.array_equal(forward, [other.batch(step, size=4) for step in range(9)])


def test_every_row_comes_once_an_epoch():
    sampler = RowSampler(np.arange(10, 20), seed=5)
    rows = np.concatenate([sampler.batch(step, size=4) for step in range(10)])
    epochs = rows.reshape(4, 10)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10, 20), (4, 1)))
    assert not np.array_equal(epochs[0], epochs[1])


def test_learning_rate_warms_up_and_falls_to_zero():
    schedule = replace(PLAIN, steps=10, warmup_steps=4, learning_rate=2.0)
    rates = [schedule.learning_rate_at(step, group="net") for step in range(11)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0 and rates[7] == pytest.approx(1.0) and rates[10] == pytest.approx(0.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    by_group = replace(schedule, learning_rate={"one": 1.0, "two": 2.0})
    assert [by_group.learning_rate_at(3, group=group) for group in ("one", "two")] == [1.0, 2.0]
