"""Domain 0 with its toolstack, as benchmarks and tests use it: guests, and what their consoles say."""
import contextlib
import itertools
import os

import machine
from machine import BUILD

KERNEL = "/boot/vmlinux"  # unpacked: to unpack it for each guest takes the toolstack minutes
MARKS = itertools.count(1)


@contextlib.contextmanager
def counting_domain0(log, image, programs=(), more=(), **options):
    """Debian as Domain 0 under instruction counting, without hardware whose speed would count, its daemons started. The test guests
    and the files named as programs are in /guests."""
    with machine.Machine(log=os.path.join(BUILD, f"bench/{log}.log"), image=image, icount=True, net="none", guests=True, more_guests=programs,
                         extra=["-seed", "1", "-rtc", "base=2020-01-01,clock=vm", *more],
                         **{"cpus": 1, "memory": 1536, "cmdline": "dom0_mem=1024M", "cpu": "max,smap=off,rdrand=off", **options}) as dom0:
        dom0.wait_ready(timeout=900)
        dom0.check("guests prepare", timeout=300)
        dom0.unpack_guests()
        yield dom0


def start(dom0, name, configuration):
    """A guest whose first program is the ramdisk's, ready for what is typed."""
    dom0.check(f"cat >/tmp/{name}.cfg <<'END'\n{configuration}\nEND\nxl create -q -p /tmp/{name}.cfg", timeout=300)
    listen(dom0, name)
    heard(dom0, name, "guest:/# ", seconds=600, since="^")


def hear(dom0, name):
    """Hears a guest's console from now on. Straight from the daemon's terminal: xl console takes no input from anything but a terminal of its own."""
    dom0.check(f"tty=$(xenstore-read /local/domain/$(xl domid {name})/console/tty); ln -sf $tty /tmp/{name}.tty; (cat $tty >>/tmp/{name}.out 2>/dev/null &)", timeout=300)


def listen(dom0, name):
    """Lets a paused guest run, and hears its console from there on."""
    dom0.check(f"rm -f /tmp/{name}.out", timeout=300)
    hear(dom0, name)
    dom0.check(f"xl unpause {name}", timeout=300)


def heard(dom0, name, what, seconds=120, since="guest: up", look_every=0.2):
    """Waits until a guest's console has said so; what it said since then."""
    status, _ = dom0.run(f"timeout {seconds} sh -c 'until grep -qF \"{what}\" /tmp/{name}.out; do sleep {look_every}; done'", timeout=seconds + 30)
    said = dom0.check(f"tr -d '\\r' </tmp/{name}.out | sed -n '/{since}/,$p' | tail -n 100 | sed 's/^/  /'")
    if status != 0:
        raise machine.MachineError(f"the guest {name} has not said {what!r}, but:\n{said}")
    return said


def in_guest(dom0, name, command, seconds=60, **more):
    """The output of a command, typed on a guest's console."""
    number = next(MARKS)
    # The quotes keep what is typed apart from what is printed.
    dom0.check(f"echo 'echo begin\"\"-{number}-; {command}; echo end\"\"-{number}-' >/tmp/{name}.tty")
    return heard(dom0, name, f"end-{number}-", seconds, since=f"begin-{number}-", **more)
