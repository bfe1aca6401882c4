"""A hundred small guests at once. Executed instructions are counted, so a busy machine changes nothing."""
import os
import statistics

import pytest
from conftest import new_machine
from guests import domains, free_pages

import machine

pytestmark = [pytest.mark.slow, pytest.mark.hearth_only]
COUNT = 100
SMALL = 'kernel = "/guests/sleeper"\nmemory = 4\n'
TOOLS = os.path.join(machine.ROOT, "tools/command")


@pytest.fixture(scope="module")
def dom0():
    with new_machine("many", cpus=1, memory=8192, cmdline="dom0_mem=2048M", net="none", icount=True, guests=True,
                     cpu="max,smap=off,rdrand=off") as booted:
        booted.wait_ready(timeout=600)
        booted.check("guests prepare", timeout=600)
        booted.unpack_guests()
        with open(TOOLS + "/count_hypercalls.c", encoding="utf-8") as source:
            booted.check(f"cat >/tmp/count.c <<'END'\n{source.read()}\nEND\n"
                         f"gcc -O1 -shared -fPIC -o /tmp/count.so /tmp/count.c -ldl; cat >/tmp/small.cfg <<'END'\n{SMALL}\nEND", timeout=300)
        yield booted


def create(dom0, number):
    """What each kind of hypercall cost while xl created a guest: kind to [calls, ticks]."""
    said = dom0.check(f"rm -f /tmp/calls; COUNT_HYPERCALLS=/tmp/calls LD_PRELOAD=/tmp/count.so xl create -e -q /tmp/small.cfg "
                      f"'name=\"small{number}\"' && cat /tmp/calls", timeout=120)
    lines = [line.split() for line in said.splitlines()]
    return {kind: [int(count), int(ticks)] for kind, count, ticks in lines}


def destroy_all(dom0):
    dom0.check(f"for n in $(seq {COUNT}); do xl destroy small$n || exit 1; done", timeout=600)


LIST_OF_DOMAINS = "35.6"  # as long as it is, by what it is for


def price(creations, kind):
    """The median of what one call of a kind cost. How often it is called is the toolstack's affair: for each domain there is, some."""
    return statistics.median(calls[kind][1] / calls[kind][0] for calls in creations)


def test_hundredth_guest_costs_what_the_first_did_and_all_pages_come_back(dom0):
    creations = [create(dom0, number) for number in range(1, COUNT + 1)]
    assert len(domains(dom0)) == COUNT
    destroy_all(dom0)
    before = free_pages(dom0)
    # Once more: what Hearth keeps for the next time is there by now.
    dom0.check(f"for n in $(seq {COUNT}); do xl create -e -q /tmp/small.cfg \"name='small$n'\" || exit 1; done", timeout=600)
    destroy_all(dom0)
    assert free_pages(dom0) == before
    first, last = creations[1:8], creations[-7:]
    for kind in first[0].keys() - {LIST_OF_DOMAINS}:
        assert price(last, kind) < price(first, kind) * 1.05, kind
