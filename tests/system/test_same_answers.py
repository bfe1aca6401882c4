"""Hearth and Debian's Xen are asked the same: by the fuzzing guest (tests/guests/fuzzer) as Domain 0 of either, with one seed.

Each step has choices of its own, so one other answer changes little of what comes after it. What differs by design is named here. Of the rest a little
differs where only one of the two has a domain, a port or a table from a step before."""
import random
import re
from collections import Counter

import measure
import pytest
from conftest import new_machine

import machine

pytestmark = [pytest.mark.hearth_only, pytest.mark.slow]
ROUNDS, STEPS, SAME = 40, 300, 0.985
ANSWER = re.compile(r"^answer (\d+) ([^:]+): (-?\d+)$", re.M)

# What is not compared, and why.
BY_DESIGN = {
    "alloc_irq_vector": "Hearth knows the lines that there are, Xen any number",
    "apic_read": "likewise",
    "apic_write": "Hearth leaves interrupt controllers to nobody",
    "assign_device": "there is no IOMMU",
    "availheap": "Xen tells of nodes that are not there",
    "bind_pirq": "Xen wants it mapped before",
    "build_id": "Hearth has none",
    "cache_flush": "Xen takes it on x86 and does nothing",
    "claim_pages": "the order of errors",
    "cpupool_op": "the order of errors",
    "current_reservation": "how much there is at the start differs",
    "dm_op": "Hearth has no emulated devices",
    "firmware_info": "what the BIOS left was not kept",
    "get_cpu_featureset": "Hearth has fewer words, and no HVM",
    "get_cpu_policy": "likewise with leaves",
    "get_symbol": "Hearth's symbols are its own",
    "getvcpuaffinity": "the order of errors",
    "hvm_op": "there is no HVM",
    "iomem_permission": "nothing is taken away from Domain 0",
    "ioport_permission": "likewise",
    "irq_permission": "Xen wants it mapped before",
    "map_pirq message": "a device that is not there is said not to be",
    "pci_device_remove": "devices are not tracked",
    "pci_mmcfg_reserved": "likewise",
    "prepare_msix": "likewise",
    "psr_alloc": "likewise, of processors",
    "restore_msi": "likewise",
    "set_cpu_policy": "Xen has a domain's vCPUs end that",
    "setvcpuaffinity": "the order of errors",
    "shadow_op enable": "Debian's Xen has no dirty log for PV",
    "shadow_op off": "likewise",
    "trap": "QEMU 7.2 says the wrong number of an INT that is refused; Hearth emulates more",
    "unmap_pirq": "the order of errors",
}


def answers(name, image, seed):
    """{(step, how many-th of it): (what, answer)}"""
    with new_machine(f"answers {name}", image=image, kernel=f"{machine.BUILD}/guests/fuzzer answers seed={seed} steps={STEPS}", initrd="", disk="none",
                     net="none", memory=512, cpus=1, cmdline="dom0_mem=256M,max:256M loglvl=none guest_loglvl=none", extra=["-no-reboot"]) as guest:
        while guest.pump(1):
            pass
        text = guest.text.replace("\r", "")
    assert "GUEST fuzzer: ok" in text, text[-3000:]
    said, times = {}, Counter()
    for step, what, answer in ANSWER.findall(text):
        times[step] += 1
        said[int(step), times[step]] = what, int(answer)
    return said


def test_both_answer_the_same():
    first = random.randrange(1 << 31)
    print("seeds from", first)
    total, same, others = 0, 0, Counter()
    for seed in range(first, first + ROUNDS):
        here, there = answers("hearth", machine.hypervisor(), seed), answers("xen", measure.debian_xen(), seed)
        for step in here.keys() & there.keys():
            (what, ours), (theirs_is, theirs) = here[step], there[step]
            if what != theirs_is or what in BY_DESIGN:
                continue
            total += 1
            same += ours == theirs
            others[what, theirs, ours] += ours != theirs
    for (what, theirs, ours), count in others.most_common(60):
        if count:
            print(f"{count:4} {what}: Xen {theirs}, Hearth {ours}")
    print(f"{same} of {total} answers are the same")
    assert same > SAME * total
