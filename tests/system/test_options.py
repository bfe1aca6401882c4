"""What the options on Hearth's command line do, each in the quickest boot."""
import contextlib
import re
import struct
import tempfile

import debugger
import pytest
from bounded_work import Symbols
from conftest import complaints, new_machine

pytestmark = pytest.mark.hearth_only
JUMP_TO_ITSELF = b"\xeb\xfe"


@contextlib.contextmanager
def quick(cmdline, cpus=1, extra=()):
    with new_machine("options " + cmdline, disk="none", net="none", memory=384, cpus=cpus, cmdline=cmdline, extra=extra) as dom0:
        yield dom0.wait_ready(timeout=120)


@contextlib.contextmanager
def stoppable(cmdline, cpus=1):
    """A machine, and how to stop it for a look."""
    with tempfile.TemporaryDirectory() as folder:
        with quick(cmdline, cpus, debugger.options(folder)[1:]) as dom0:
            yield dom0, lambda: debugger.Debugger(folder)


def test_time_stamps_and_no_extended_state():
    with quick("console_timestamps xsave=no clocksource=acpi", cpus=2) as dom0:
        stamps = [float(stamp) for stamp in re.findall(r"^\(HEARTH\) \[ *(\d+\.\d{6})\] ", dom0.text, re.M)]
        assert len(stamps) > 8 and stamps[0] == 0 and 0.01 < stamps[-1] < 60  # 40 million instructions at least
        # The clock is measured anew once, before Domain 0 starts.
        assert all(later > earlier - 0.05 for earlier, later in zip(stamps, stamps[1:]))
        assert "by a 3579 kHz counter" in dom0.text
        assert not re.search(r"CPUs online:.*XSAVE", dom0.text)
        flags = dom0.check("grep -m1 ^flags /proc/cpuinfo").split()
        assert "fxsr" in flags and not {"xsave", "osxsave", "avx"} & set(flags)
        assert dom0.check("echo '3 k 2 v p' | dc") == "1.414"
        assert dom0.poweroff() == 0


CLOCKS = {"pit": "by a 1193 kHz counter", "hpet": "by a 100000 kHz counter", "acpi": "by a 3579 kHz counter", "tsc": "no such clock as clocksource= names"}


def test_each_clock_measures_the_same():
    found = {}
    for clock, said in CLOCKS.items():
        with new_machine(f"options {clock}", disk="none", net="none", memory=384, cmdline=f"clocksource={clock}") as dom0:
            found[clock] = int(dom0.wait_for(r"time: TSC (\d+) kHz.*\n")[1])
            assert said in dom0.text
    assert max(found.values()) < 1.005 * min(found.values()), found


# What QEMU tells of a reset: how the processors came to it.
TRACES = {"k": "pckbd_kbd_write_command.*0xfe", "t": r"Triple fault\nCPU Reset.*\n(.*\n){4}RIP=ffff82", "a": None, "p": None}


@pytest.mark.parametrize("method", TRACES)
def test_reset_by(method):
    with tempfile.NamedTemporaryFile("r") as trace:
        with quick(f"reboot={method}", extra=["-d", "cpu_reset,trace:pckbd_kbd_write_command", "-D", trace.name]) as dom0:
            dom0.send("reboot -f\n")
            dom0.wait_for(r"rebooting the machine", timeout=30)
            dom0.wait_for(r"Hearth, a hypervisor", timeout=30)
        said = trace.read()
    assert {how for how, sign in TRACES.items() if sign and re.search(sign, said)} == {method} - {"a", "p"}


def test_no_reboot():
    with quick("reboot=no") as dom0:
        dom0.send("reboot -f\n")
        dom0.wait_for(r"Stopped, since reboot=no", timeout=30)


@pytest.mark.parametrize("cpus", [1, 2])
def test_watchdog_finds_a_cpu_that_hangs(cpus):
    with stoppable("watchdog_timeout=2 noreboot", cpus) as (dom0, stop):
        assert "watchdog: a CPU may take 2 s" in dom0.text
        # No bite while all is well, idle or busy.
        dom0.check("sleep 4; i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done")
        stopped = stop()
        stopped.write(Symbols().address("do_console_io"), JUMP_TO_ITSELF)
        stopped.let_go()
        dom0.send("echo anything\n")
        dom0.wait_for(r"PANIC on CPU \d: watchdog", timeout=30, may_fall_over=True)
        dom0.wait_for(r"hearth::do_console_io", timeout=10, may_fall_over=True)
        dom0.wait_for(r"Stopped; reset", timeout=10, may_fall_over=True)


def test_defences():
    """Forced on, since no emulated processor needs them; the thunk is looked at, the rest runs."""
    with stoppable("spec-ctrl=bti-thunk=retpoline,rsb,verw", 2) as (dom0, stop):
        assert re.search(r"speculation: defences: retpolines return-stack VERW$", dom0.text, re.M)
        dom0.check("i=0; while [ $i -lt 500 ]; do cat /proc/uptime >/dev/null; i=$((i + 1)); done")
        stopped = stop()
        thunk = stopped.read(Symbols().address("__x86_indirect_thunk_r11"), 18)
        stopped.let_go()
        assert thunk[0] == 0xE8 and thunk.endswith(b"\x4c\x89\x1c\x24\xc3\xcc")
        assert dom0.poweroff() == 0


def test_no_defences():
    with stoppable("spec-ctrl=no") as (dom0, stop):
        assert re.search(r"speculation: defences: none$", dom0.text, re.M)
        stopped = stop()
        assert stopped.read(Symbols().address("__x86_indirect_thunk_r11"), 3) == b"\x41\xff\xe3"
        stopped.let_go()


WINDOWS, AIRLOCKS, PAGE = 0xFFFF820000000000, 0xFFFF828000400000, 0x1000


def mapped_of_hearth(stopped, table, level=4, base=0xFFFF000000000000):
    """Which pages of Hearth's part, the M2P aside, the tables below a physical address map: their size, and the entry."""
    found = {}
    for index, entry in enumerate(struct.unpack("<512Q", stopped.read_physical(table, PAGE))):
        address, below = base + (index << 3 + 9 * level), entry & 0x000FFFFFFFFFF000
        if not entry & 1 or (level == 4 and not 257 <= index < 272):
            continue
        if level == 1 or entry & 0x80:
            found[address] = (8 << 9 * level, entry)
        else:
            found |= mapped_of_hearth(stopped, below, level - 1, address)
    return found


def check_isolation(stopped, cpu):
    pages = mapped_of_hearth(stopped, stopped.register("3") & ~(PAGE - 1))
    assert all(size == PAGE and not entry & 4 for size, entry in pages.values()), "small, and not for the guest's own use"
    text, airlock = Symbols().address("airlock_text_start"), AIRLOCKS + cpu * PAGE
    windows = {address for address in pages if WINDOWS <= address < WINDOWS + 2**39}
    assert 1 <= len(windows) <= 32 and max(windows) - min(windows) < 32 * PAGE, "one vCPU's descriptors"
    rest = pages.keys() - windows - {text + i * PAGE for i in range(4)} - {airlock}
    assert airlock in pages and len(rest) == 5, "the IDT and four pages of TSSs beside them"
    assert all(text < address < text + 2**20 for address in rest), "in the image"
    return True


def looks_at_a_guest(stopped, cpu):
    stopped.monitor(f"cpu {cpu}")
    return "CPL=3" in stopped.monitor("info registers")


@pytest.mark.parametrize("cpus", [1, 2])
def test_isolation(cpus):
    """Domain 0 works, and on no CPU does it run with more of Hearth mapped than an entry needs."""
    with stoppable("xpti=yes", cpus) as (dom0, stop):
        assert re.search(r"speculation: defences:.* XPTI$", dom0.text, re.M)
        dom0.check("i=0; while [ $i -lt 50 ]; do cat /proc/uptime >/dev/null; i=$((i + 1)); done")
        dom0.check("for i in 1 2; do while :; do :; done & echo $! >>/busy; done")
        looked_at = set()
        for _ in range(50):
            stopped = stop()
            looked_at |= {cpu for cpu in range(cpus) if looks_at_a_guest(stopped, cpu) and check_isolation(stopped, cpu)}
            stopped.let_go()
            if len(looked_at) == cpus:
                break
        assert len(looked_at) == cpus
        dom0.check("kill $(cat /busy)")
        assert not complaints(dom0)
        assert dom0.poweroff() == 0


# A page that nobody may touch, and more memory than there is: entries that are absent and say something.
ABSENT = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
forbidden = mmap.mmap(-1, 1 << 20)
forbidden.write(b"x" * (1 << 20))
address = ctypes.addressof(ctypes.c_char.from_buffer(forbidden))
for rights in (0, 3):
    assert libc.mprotect(ctypes.c_void_p(address), 1 << 20, rights) == 0
pages = [bytearray([i & 255]) * 4096 for i in range(60000)]
assert all(page[0] == page[4095] == i & 255 for i, page in enumerate(pages))
"""


def test_absent_entries():
    """Linux keeps to what processors with L1TF ask for: it swaps, and is not ended for it."""
    with new_machine("options absent entries", cpus=2, memory=512, disk="virtio", cmdline="dom0_mem=300M pv-l1tf") as dom0:
        dom0.wait_ready()
        assert re.search(r"speculation: defences:.* absent-entries absent-entries-of-domain-0$", dom0.text, re.M)
        dom0.check("fallocate -l 512M /swap && chmod 600 /swap && mkswap /swap && swapon /swap")
        dom0.check(f"cat >/tmp/absent.py <<'END'\n{ABSENT}\nEND\npython3 /tmp/absent.py", timeout=300)
        assert int(dom0.check("grep '^pswpin ' /proc/vmstat").split()[1]) > 1000
        assert dom0.poweroff() == 0


def send_nmi(stop):
    stopped = stop()
    stopped.monitor("nmi")
    stopped.let_go()


def test_nmi_reaches_domain_0():
    with stoppable("", cpus=2) as (dom0, stop):
        send_nmi(stop)
        dom0.check("for i in $(seq 50); do dmesg | grep -q 'NMI received for unknown reason' && exit 0; sleep 0.1; done; exit 1")


def test_nmi_is_ignored_when_told():
    with stoppable("nmi=ignore") as (dom0, stop):
        send_nmi(stop)
        assert "NMI received" not in dom0.check("sleep 1; dmesg")


def test_nmi_ends_the_machine_when_told():
    with stoppable("nmi=fatal noreboot") as (dom0, stop):
        send_nmi(stop)
        dom0.wait_for(r"PANIC on CPU 0: NMI of unknown cause", timeout=30, may_fall_over=True)
