"""How many actors there are and what each takes: machines like and unlike, few units, wishes."""

from __future__ import annotations

import pytest

from common.cluster.pools import SLACK, Machine, cpu_pool, gpu_pool, threads_of, wants_two_operators
from curation.recipe.recipe import Score
from tests.bench.simulated import shares, simulated
from tests.bench.sleepers import Work

BOX = Machine(16, 1)


def test_an_actor_a_cpu_and_room_for_as_many_as_there_are_units():
    pool = cpu_pool([Machine(4, 0), Machine(8, 0)], None, units=1000)
    assert (pool.start, pool.most, pool.cpus) == (12, 1000, SLACK)


def test_no_more_actors_than_units_and_more_than_cpus_only_where_asked_for():
    assert cpu_pool([Machine(8, 0)], None, units=3).start == 3
    asked = cpu_pool([Machine(2, 0)], 4, units=10)
    assert (asked.start, asked.most, asked.cpus) == (4, 4, SLACK / 2)


@pytest.mark.parametrize("boxes", [1, 4, 64])
def test_a_gpu_actor_has_its_share_of_the_cpus_of_its_machine(boxes):
    pool = gpu_pool([BOX] * boxes, None, units=10_000, actors_a_gpu=2)
    assert (pool.start, pool.gpus, pool.cpus) == (2 * boxes, 0.5, SLACK * 8)
    assert threads_of(BOX, 2) == 16  # both may use all the cores while the other waits


def test_unlike_machines_each_run_as_many_threads_as_they_have_cores_for():
    large, small = Machine(96, 8), Machine(4, 1)
    pool = gpu_pool([large, small], None, units=10_000, actors_a_gpu=1)
    assert pool.cpus == SLACK * 4  # what fits on both
    assert (threads_of(large, 1), threads_of(small, 1)) == (12, 4)


@pytest.mark.parametrize(
    ("machines", "two"),
    [([BOX], False), ([BOX] * 4, False), ([Machine(16, 0)] * 4, False), ([BOX, Machine(64, 0)], True),
     ([BOX] * 8 + [Machine(8, 0)], False)],
)  # fmt: skip
def test_cpu_filters_get_an_operator_where_many_cpus_stand_without_a_gpu(machines, two):
    assert wants_two_operators(machines) is two


def test_cores_and_gpus_are_busy_where_both_would_just_be_full():
    """Simulated; `make bench ONLY=pools` measures a machine beside it."""
    work, actors = Work(decode=0.2, cpu=0.12, gpu=0.02), Score().actors_a_gpu
    machines = [BOX, BOX]
    busy = shares(simulated(machines, work, 2 * actors * 2, 1000, actors), machines)
    assert all(0.9 < share <= 1.0001 for share in busy), busy
    alone = shares(simulated([BOX], work, 2, 1000, 1), [BOX])
    assert max(alone) < 0.9, "one actor leaves the GPU idle while it decodes"


def test_no_more_actors_than_a_machine_has_memory_for():
    laptop, box = Machine(8, 0, 6e9), Machine(16, 1, 10e9)
    assert cpu_pool([laptop], None, units=100, memory=1.2e9).start == 5
    assert cpu_pool([laptop] * 3, None, units=100, memory=1.2e9).start == 15
    assert cpu_pool([laptop], None, units=100, share=2, memory=1.2e9).start == 2
    assert gpu_pool([box], None, units=100, actors_a_gpu=4, memory=4e9).start == 2
    alone = cpu_pool([laptop], None, units=100, memory=50e9)
    assert (alone.start, alone.memory) == (1, 6e9)  # Ray would wait for ever for 50 GB
    assert cpu_pool([Machine(8, 0)], None, units=100, memory=1.2e9).start == 8
