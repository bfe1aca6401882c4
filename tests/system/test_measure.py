"""What the benchmarks make of what they have counted; they themselves take too long for a test."""
import measure_io
import measure_isolation
import measure_linux
import pytest
from commands import Failure

NATIVE = {"getppid": 341, "mmap, touch": 1000, "mprotect, twice": 1000, "page fault, file": 1000, "pipe, there and back": 1000, "fork and exec": 1000, "signal": 1000}


def test_linux_at_its_goals():
    here = {"getppid": 591, "mmap, touch": 1400, "mprotect, twice": 1500, "page fault, file": 2000, "pipe, there and back": 1500, "fork and exec": 2000,
            "signal": 9000, measure_linux.CLOCK: 590, measure_linux.CLOCK_ON_TWO: 590}
    assert measure_linux.missed(NATIVE, here) == []
    above = {what: count + 1 for what, count in here.items()}
    # A system call more is one that the clock may take as well.
    assert [what for what, _, _ in measure_linux.missed(NATIVE, above)] == [what for what in here if what not in ("signal", *measure_linux.CLOCKS)]
    assert measure_linux.missed(NATIVE, here | {measure_linux.CLOCK_ON_TWO: 1208}) == [(measure_linux.CLOCK_ON_TWO, 1208, 590)]


def test_what_a_neighbour_loses_is_what_it_does_less_than_beside_a_well_behaved_one():
    work = {beside: {"computing": 1000, "requests": 1000} for beside in measure_isolation.BESIDE}
    work[measure_isolation.ALONE] = {"computing": 4000}
    work["disk hog"] = {"computing": 400, "requests": 100}
    work[measure_isolation.BUSY] = {"computing": 500, "requests": 99}
    lost = measure_isolation.lost(work)
    assert lost["fork bomb"] == lost["memory hog"] == {"computing": 0, "requests": 0}
    assert lost["disk hog"] == {"computing": pytest.approx(0.2), "requests": pytest.approx(-1 / 99)}
    # It had a quarter of the CPU, and in the baseline what another left besides.
    work[measure_isolation.ALONE] = {"computing": 1600}
    assert measure_isolation.lost(work)["disk hog"]["computing"] == 0


def test_requests_between_marks():
    said = "noise\nREQUESTS block: read: 10\nREQUESTS network: ping: 4\n"
    assert measure_io.per_request(said, "100 50\n1100 150\n2000 400\n2400 408\n") == {
        "block: read": {"all": 100, "hypervisor": 10}, "network: ping": {"all": 100, "hypervisor": 2}}
    with pytest.raises(Failure):
        measure_io.per_request(said, "100 50\n1100 150\n2000 400\n")
