"""When a kernel is started again."""

from contract.errors import KernelDied
from orchestrator.hosting import restarts
from orchestrator.hosting.restarts import RestartPolicy, was_memory


def test_pauses_grow_and_the_sixth_death_in_three_minutes_is_the_last() -> None:
    policy = RestartPolicy()
    assert [policy.died(now) for now in (0, 10, 20, 30, 40)] == [0.5, 1, 2, 4, 8]
    assert policy.died(50) is None


def test_old_deaths_are_forgotten() -> None:
    policy = RestartPolicy()
    for now in (0, 10, 20, 30, 40):
        policy.died(now)
    assert policy.died(500) == 0.5


def test_a_kill_while_the_count_of_memory_kills_goes_up_was_for_want_of_memory() -> None:
    now = restarts.oom_kills()
    killed = KernelDied("It was killed.", details={"signal": "SIGKILL"})
    crashed = KernelDied("It crashed.", details={"signal": "SIGSEGV"})
    assert was_memory(killed, now - 1)
    assert not was_memory(killed, now)
    assert not was_memory(crashed, now - 1)
