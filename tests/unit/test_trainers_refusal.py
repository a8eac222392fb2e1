"""What trying again cannot mend is told once; running out of memory is told with the plan."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
import torch

from penchant.platform.errors import ConfigError, RunError
from penchant.trainers import refusal
from penchant.trainers.course import Course, Group
from penchant.trainers.memory_trouble import keep_plan, out_of_memory, ran_out
from penchant.trainers.refusal import forget_refusal, read_refusal, refusing

ALONE = Group(rank=0, workers=1)
PLAN = "ZeRO-0 in fp32, 1.20 GiB a worker"


def failing(error):
    def work():
        raise error

    return work


def test_a_refusal_is_told_and_the_next_worker_group_does_not_try(tmp_path):
    kept = tmp_path / "checkpoint_2"
    kept.mkdir()
    (tmp_path / "checkpoint_manager_snapshot.json").write_text("{}")  # Ray's list of them
    assert not refusing(failing(ConfigError("no such base.")), tmp_path, ALONE, "less")
    assert not refusing(lambda: pytest.fail("tried again"), tmp_path, ALONE, "less")
    found = read_refusal(tmp_path)
    assert isinstance(found, ConfigError)
    assert str(found) == f"no such base. The last checkpoint lies in {kept}."
    forget_refusal(tmp_path)
    assert refusing(lambda: None, tmp_path, ALONE, "less")


def test_what_may_go_well_next_time_is_raised_for_ray_to_try_again(tmp_path):
    with pytest.raises(OSError, match="node went away"):
        refusing(failing(OSError("node went away")), tmp_path, ALONE, "less")
    assert read_refusal(tmp_path) is None


def test_workers_that_all_refuse_end_in_peace(tmp_path):
    def one(rank):
        group = Group(rank=rank, workers=2)
        return refusing(failing(RunError("the loss is nan.")), tmp_path, group, "less")

    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [False, False]
    assert time.monotonic() - began < refusal._WAIT_S


def test_one_that_refuses_alone_raises_so_that_the_others_do_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(refusal, "_WAIT_S", 0.1)
    with pytest.raises(RunError, match="disk"):
        refusing(failing(RunError("disk.")), tmp_path, Group(rank=1, workers=2), "less")
    assert not refusing(failing(OSError()), tmp_path, Group(rank=0, workers=2), "less")


class WorkersError(RuntimeError):
    """As Ray Train tells which workers failed, and why."""

    def __init__(self, cause):
        super().__init__("workers failed")
        self.worker_failures = {1: cause}


class UnhealthyError(RuntimeError):
    """As Ray Train tells of a worker that is gone."""

    def __init__(self, cause):
        super().__init__("a health check failed")
        self.health_check_failure = cause


KILLED = ray.exceptions.OutOfMemoryError("the node is low on memory")


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"), True),
        (KILLED, True),
        (WorkersError(UnhealthyError(KILLED)), True),
        (WorkersError(ValueError()), False),
        (RuntimeError("shapes differ"), False),
        (OSError("No space left on device"), False),
    ],
)
def test_it_is_known_whether_memory_ran_out(error, memory):
    assert ran_out(error) == memory


def test_out_of_memory_is_told_with_the_plan_and_the_dials(tmp_path):
    keep_plan(tmp_path, PLAN)
    error = torch.OutOfMemoryError("CUDA out of memory.\nmore")
    assert not refusing(failing(error), tmp_path, ALONE, "take fewer layers")
    message = str(read_refusal(tmp_path))
    assert f"The plan was {PLAN}." in message
    assert "To need less, take fewer layers." in message
    assert "OutOfMemoryError: CUDA out of memory)" in message
    assert "more" not in message.split("plan")[0]


def test_without_a_plan_it_says_so(tmp_path):
    told = str(out_of_memory(MemoryError(), tmp_path, "lower batch_tokens"))
    assert "No estimate" in told


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_told_with_step_and_checkpoint(loss):
    course = Course(next_epoch=2, step=40)
    course.check_loss(1.5, "text", "learning_rate")
    with pytest.raises(RunError, match=rf"is {loss} at step 41 \(epoch 3\).*after epoch 2, is"):
        course.check_loss(loss, "text", "learning_rate")
    with pytest.raises(RunError, match="no checkpoint yet. Lower learning_rate"):
        Course().check_loss(loss, "text", "learning_rate")
    with pytest.raises(RunError, match=rf"loss on select is {loss} after step 40 \(epoch 3\)"):
        course.check_loss(loss, "text", "learning_rate", on_select=True)
