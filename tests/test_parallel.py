"""Processes that share a job; the real ones under torchrun are in
commands/evaluate/test_several_processes.py."""

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from vidprune import parallel
from vidprune.parallel import Process, join, leave


@given(st.integers(1, 9), st.integers(0, 40))
def test_over_all_processes_each_item_is_done_once(count, items):
    shares = [Process(rank=rank, count=count).share(range(items)) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_there_is_nobody_to_wait_for(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    process = join()
    assert process == Process()
    assert process.reports
    assert process.gather("found") == ["found"]
    process.wait_for_all()
    assert not dist.is_initialized()
    leave()


@pytest.fixture
def second_of_three(monkeypatch):
    places = {"RANK": "4", "WORLD_SIZE": "6", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "init_process_group", lambda *arguments, **options: None)


def test_torchrun_says_which_process_this_is(second_of_three):
    process = join()
    assert process == Process(rank=4, count=6, local_rank=1, local_count=3)
    assert not process.reports


def test_every_process_has_a_gpu_of_its_own(second_of_three, monkeypatch):
    chosen = []
    monkeypatch.setattr(parallel.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(parallel.torch.cuda, "set_device", chosen.append)
    join()
    assert chosen == [1]
