"""Adversarial guests: each case is something that a guest must not be able to do. It gets an error, or dies alone for a reason that is named.

tests/guests/attacks/CLASS.cpp holds the cases of a class. Those that the guest survives share a boot; the others have one each."""
import glob
import os
import re

import pytest
from conftest import new_machine

import machine

CLASSES = sorted(os.path.basename(path)[:-4] for path in glob.glob(os.path.join(machine.ROOT, "tests/guests/attacks/*.cpp")))
VCPUS = 4
# The emulated processor is AMD's, which has no `sysenter` in 64-bit mode; the other kind has no `syscall` in 32-bit code.
OTHER_VENDOR = "max,smap=off,vendor=GenuineIntel"


def boot(name, cpus, case="", cpu="max,smap=off", options=""):
    """What the machine says until it ends."""
    kernel = f"{machine.BUILD}/guests/{name}" + (f" case={case}" if case else "")
    with new_machine(f"attack {name} {cpus} {case} {'intel' if 'vendor' in cpu else ''} {options}", kernel=kernel, initrd="", disk="none", net="none",
                     memory=512, cpus=cpus, cpu=cpu, cmdline=f"dom0_max_vcpus={VCPUS} {options}", extra=["-no-reboot"]) as guest:
        guest.wait_end(timeout=180)
        assert not machine.FELL_OVER.search(guest.text), f"the hypervisor fell over {name} {case}:\n" + guest.text[-4000:]
        return guest.text


def failures(text):
    """The lines of the cases that failed, with what they expected."""
    lines = [line for line in text.splitlines() if not line.startswith("(")]
    return "\n".join(line for line in lines if "FAILED" in line or line.startswith("  ")) or "\n".join(lines[-5:])


def check(name, cpus, **options):
    text = boot(name, cpus, **options)
    assert f"GUEST {name}: ok" in text, failures(text)
    for case, reason in re.findall(r"^ALONE (\S+) \(.*?\): (.*)$", text, re.M):
        last = boot(name, cpus, case, **options)
        assert f"CASE {case} (" in last and f"CASE {case}: FAILED" not in last and "GUEST" not in last, failures(last)
        if machine.is_hearth():
            assert re.search(rf"domain 0 crashed: {re.escape(reason)}", last), last[-2000:]
        else:
            assert re.search(r"Dom0 crashed", last), last[-2000:]


@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("name", CLASSES)
def test_attacks(name, cpus):
    check(name, cpus)


def test_attacks_on_the_other_vendors_processor():
    check("entry", 2, cpu=OTHER_VENDOR)


@pytest.mark.hearth_only
@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("name", CLASSES)
def test_attacks_in_isolation(name, cpus):
    check(name, cpus, options="xpti=yes")


@pytest.mark.hearth_only
@pytest.mark.parametrize("isolation", ["yes", "no"])
@pytest.mark.parametrize("name", ["entry", "cpu"])
def test_attacks_with_every_patch_of_the_entry_paths(name, isolation):
    check(name, 2, options=f"spec-ctrl=bti-thunk=retpoline,rsb,verw xpti={isolation}")
