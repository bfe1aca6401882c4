"""What the system tests share: how they boot a machine, and what a failure shows."""
import contextlib
import os
import re
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/command"))
import machine  # noqa: E402

LOGS = os.path.join(machine.BUILD, "logs/system")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the long tests too")
    parser.addoption("--write-tables", action="store_true", help="write what happens into the tables of docs/ that it is held against")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; runs with --slow only")
    config.addinivalue_line("markers", "hearth_only: looks for what Hearth alone says or does")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.name in SHARING)
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
        if "hearth_only" in item.keywords and not machine.is_hearth():
            item.add_marker(pytest.mark.skip(reason="HEARTH_IMAGE names another hypervisor"))


def pytest_terminal_summary(terminalreporter):
    for log in machine.restarts_of_qemu:
        terminalreporter.write_line(f"QEMU itself crashed, and was started once more: {log}")


def pytest_sessionfinish(session):
    # QEMU 7.2 does that once in hundreds of boots. More often, it is the hypervisor that makes it.
    if len(machine.restarts_of_qemu) > 2 and session.exitstatus == 0:
        session.exitstatus = 1


@pytest.fixture(scope="session")
def slow(request):
    return request.config.getoption("--slow")


def new_machine(name, **options):
    """A machine that is not started yet; its serial log is build/logs/system/NAME.log. Its kernel is unpacked, unless it is said which: that takes seconds."""
    os.makedirs(LOGS, exist_ok=True)
    options = {"kernel": machine.DOM0 + "/vmlinux", **options}
    return machine.Machine(log=os.path.join(LOGS, re.sub(r"\W+", "-", name).strip("-") + ".log"), **options)


def stops(machine_that_refused):
    """Whether nothing comes behind "cannot start", and the machine does not start over, which QEMU's -no-reboot would make its end."""
    end = time.monotonic() + 1
    while (left := end - time.monotonic()) > 0:
        if not machine_that_refused.pump(left):
            return False
    return bool(re.search(r"cannot start: .*\n\Z", machine_that_refused.text))


# Of the hypervisor, at any time: something has failed that it does without.
HYPERVISORS_COMPLAINTS = re.compile(r"(?<!  )\(HEARTH\) .*(PANIC|Stack trace|lock of rank|does not answer|does not count|needs x2APIC|is lost$|is off$|restarted without).*", re.M)


def complaints(dom0):
    """The lines of Domain 0's kernel log and of the hypervisor's that report something wrong."""
    kernels = dom0.run("dmesg | grep -E 'WARNING:|BUG:|Call Trace|Oops|self-detected stall|detected stalls|soft lockup|hung task|"
                       "nobody cared|map irq failed|Bad page|general protection|unchecked MSR|I/O error|clocksource: .*unstable'")[1].strip()
    return "\n".join([*kernels.splitlines(), *(found[0] for found in HYPERVISORS_COMPLAINTS.finditer(dom0.text))])


# Files of tests that share a machine, one after the other.
SHARING = ["test_domains.py", "test_grants.py", "test_migrate.py", "test_neighbours.py", "test_save.py"]


def start_toolstack(name, memory=2048):
    """A machine with the toolstack's daemons, a disk for a guest in a file, and the test guests in /guests; to be stopped."""
    with contextlib.ExitStack() as started:
        dom0 = started.enter_context(new_machine(name, cpus=2, memory=memory, cmdline="loglvl=all", guests=True))
        dom0.wait_ready()
        dom0.check("guests prepare; truncate -s 32M /tmp/disk.img", timeout=120)
        dom0.unpack_guests()
        started.pop_all()  # all went well
        return dom0


class Toolstack:
    """A machine of start_toolstack() for all files that need no other. It is started anew after a test that failed,
    and ends with the last of them."""

    def __init__(self, files):
        self.machine, self.failures, self.files, self.boots = None, 0, files, 0

    def get(self, failures):
        if self.machine and (failures != self.failures or not self.machine.pump(0)):
            self.end()
        if not self.machine:
            self.boots += 1
            self.machine = start_toolstack(f"toolstack {self.boots}")
        self.failures = failures
        return self.machine

    def leave(self, file):
        """Domain 0 is without guests again."""
        if self.machine and not self.machine.fell_over:
            for name in re.findall(r"^(?!Name|Domain-0)(\S+) +\d", self.machine.run("xl list")[1], re.M):
                self.machine.run(f"xl destroy {name}")
        self.files.discard(file)
        if not self.files:
            self.end()

    def end(self):
        if self.machine:
            self.machine.stop()
            self.machine = None


@pytest.fixture(scope="session")
def toolstack_machine(request):
    kept = Toolstack({item.path.name for item in request.session.items} & {*SHARING})
    yield kept
    kept.end()


@pytest.fixture(scope="module")
def toolstack(request, toolstack_machine):
    """Domain 0 without guests, for a file of tests, which leaves none."""
    yield toolstack_machine.get(request.session.testsfailed)
    toolstack_machine.leave(request.path.name)
