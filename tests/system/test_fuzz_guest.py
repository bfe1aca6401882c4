"""Guests whose vCPUs ask for anything (tests/guests/fuzzer): as Domain 0, and two of them beside it, with grants and events between them.

Each round prints its seed; `seed=N` on the guest's command line gives each vCPU the same choices again."""
import itertools
import random
import re
import signal
import time

import pytest
from conftest import complaints, new_machine, start_toolstack
from guests import domains, free_pages, hear, heard

import machine

# Slow until it is known why a vCPU may stay away: by what it did itself, or since it was not woken.
pytestmark = [pytest.mark.hearth_only, pytest.mark.slow]
SILENCE = 90  # seconds without a word of the guest, which has something to say each second
ROUND = 300  # the longest, in seconds
CALLS = re.compile(r"fuzzer: (?:the end: )?(\d+) calls, (\d+) done")


def rounds(seconds):
    """(seed, seconds) of rounds for so long in all. A guest that dies ends one; the next has the next seed."""
    seed, end = random.randrange(1 << 31), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 3:
        yield seed, int(min(left, ROUND))
        seed += 1


def watched(guest):
    """Until it ends; it has to make progress."""
    heard_last, position = time.monotonic(), 0
    while guest.pump(1):
        if progress := list(CALLS.finditer(guest.text, position)):
            heard_last, position = time.monotonic(), progress[-1].end()
        if "the machine stops" in guest.text[-500:]:
            return
        assert time.monotonic() - heard_last < SILENCE, "the guest is silent:\n" + guest.text[-3000:]


def the_emulator_gave_up(guest):
    """QEMU 7.2's translator does, of some instructions; that ends the round. Nothing else may abort it."""
    if guest.process.poll() != -signal.SIGABRT:
        return False
    guest.errors.seek(0)
    assert b"tcg fatal error" in guest.errors.read(), guest.text[-3000:]
    print("the emulator itself gave up, which ends the round")
    return True


def play_as_domain_0(seed, seconds, cpus, vcpus):
    """How many calls it made, and how many were done."""
    print(f"seed={seed} seconds={seconds}, {cpus} CPUs, {vcpus} vCPUs", flush=True)
    with new_machine(f"fuzzer {cpus} {vcpus} {seed}", kernel=f"{machine.BUILD}/guests/fuzzer seed={seed} seconds={seconds}", initrd="", disk="none", net="none",
                     memory=512, cpus=cpus, cmdline=f"dom0_max_vcpus={vcpus}", extra=["-no-reboot"]) as guest:
        watched(guest)
        text = guest.text
        if the_emulator_gave_up(guest):
            text += "GUEST fuzzer: ok"
    assert not machine.FELL_OVER.search(text), f"seed={seed}: the hypervisor fell over:\n{text[-4000:]}"
    # It may die of what it does, and says so; nothing else ends it.
    assert "GUEST fuzzer: ok" in text or re.search(r"domain 0 crashed: \w", text), f"seed={seed}:\n{text[-3000:]}"
    calls = CALLS.findall(text)
    return tuple(map(int, calls[-1])) if calls else (0, 0)


@pytest.mark.parametrize("cpus, vcpus", [(2, 4), (4, 2)])
def test_domain_0_asks_for_anything(cpus, vcpus, slow):
    made = [play_as_domain_0(seed, seconds, cpus, vcpus) for seed, seconds in rounds(900 if slow else 12)]
    calls, done = (sum(one) for one in zip(*made))
    print(f"{len(made)} rounds, {calls} calls, {done} done")
    assert done > 100 * len(made) and calls > done


# --- Beside Domain 0

CONFIGURATION = """name = "{name}"
kernel = "/guests/fuzzer"
extra = "seed={seed} seconds={seconds} peer={peer}"
memory = 16
vcpus = {vcpus}
on_crash = "preserve"
on_poweroff = "preserve"
"""
NAMES = {"fuzz1": 4, "fuzz2": 2}


class Host:
    """Domain 0 with its toolstack; another one after the emulator gave up."""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.dom0.stop()

    def start(self):
        self.dom0, self.free = start_toolstack("fuzzers"), []

    def play(self, seed, seconds):
        """What each guest did. All of Hearth's memory is back then."""
        try:
            made = play_beside(self.dom0, seed, seconds)
            self.free.append(free_pages(self.dom0))
        except machine.MachineError:
            if not the_emulator_gave_up(self.dom0):
                raise
            self.dom0.stop()
            self.start()
            return []
        # Once for what Hearth keeps for the next time.
        assert set(self.free[1:]) <= {self.free[0]}, self.free
        assert complaints(self.dom0) == ""
        return made


def play_beside(dom0, seed, seconds):
    print(f"seed={seed} seconds={seconds}, beside Domain 0", flush=True)
    newest = int(dom0.check("xenstore-list /local/domain | sort -n | tail -n 1"))
    for number, (name, vcpus) in enumerate(NAMES.items()):
        text = CONFIGURATION.format(name=name, seed=seed + number, seconds=seconds, peer=newest + 2 - number, vcpus=vcpus)
        dom0.check(f"cat >/tmp/{name}.cfg <<'END'\n{text}END\nxl create -p /tmp/{name}.cfg && rm -f /tmp/{name}.out", timeout=60)
        hear(dom0, name)
    dom0.check("xl unpause fuzz1 && xl unpause fuzz2")
    for name in NAMES:
        heard(dom0, name, "fuzzer: seed=", since="^")
        # Domain 0 answers all the while.
        dom0.check(f"timeout {seconds + SILENCE} sh -c 'until xl list {name} | grep -Eq \" [-r][-b][-p]s[-c][-d] \"; do sleep 0.5; done'", timeout=seconds + 2 * SILENCE)
    made = []
    for name in NAMES:
        said = dom0.check(f"tr -d '\\r' </tmp/{name}.out | strings | tail -n 5")
        made.append(tuple(map(int, (CALLS.findall(said) or [(0, 0)])[-1])))
        assert "FAILED" not in said and "come back" not in said, f"seed={seed}, {name}: {said}"
        dom0.check(f"xl destroy {name}")
    assert domains(dom0) == {}
    return made


def test_guests_beside_domain_0_ask_for_anything(slow):
    made = []
    with Host() as host:
        for seed, seconds in itertools.chain([(random.randrange(1 << 31), 2)], rounds(1800 if slow else 12)):
            made += host.play(seed, seconds)
        print(f"{len(made)} rounds of a guest, free pages {host.free}")
    calls, done = (sum(one) for one in zip(*made))
    print(f"{calls} calls, {done} done")
    assert done > 100 * len(made) / 2 and calls > done
