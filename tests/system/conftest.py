"""What the system tests share: how they boot a machine, and what a failure shows."""
import os
import re
import sys

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
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
        if "hearth_only" in item.keywords and not machine.is_hearth():
            item.add_marker(pytest.mark.skip(reason="HEARTH_IMAGE names another hypervisor"))


@pytest.fixture(scope="session")
def slow(request):
    return request.config.getoption("--slow")


def new_machine(name, **options):
    """A machine that is not started yet; its serial log is build/logs/system/NAME.log. Its kernel is unpacked, unless it is said which: that takes seconds."""
    os.makedirs(LOGS, exist_ok=True)
    options = {"kernel": machine.DOM0 + "/vmlinux", **options}
    return machine.Machine(log=os.path.join(LOGS, re.sub(r"\W+", "-", name).strip("-") + ".log"), **options)


def complaints(dom0):
    """The lines of Domain 0's kernel log that report something wrong."""
    return dom0.run("dmesg | grep -E 'WARNING:|BUG:|Call Trace|Oops|self-detected stall|detected stalls|soft lockup|hung task|"
                    "nobody cared|map irq failed|Bad page|general protection|unchecked MSR|I/O error|clocksource: .*unstable'")[1].strip()
