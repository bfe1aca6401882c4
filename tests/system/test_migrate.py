"""Guests that move while they run and work: live migration from a machine to itself, and saving, by Debian's unmodified toolstack."""
import re
from contextlib import contextmanager

import pytest
from conftest import complaints, start_toolstack
from guests import DEVICES, configure, create, domains, free_pages, hear, in_guest, wait_until_gone

# What the guest does all the while. Each notes in /tmp/wrong what is wrong: memory that must stay as it was while other memory is
# written anew, a disk that must say what was written to it, a clock that must not go back; and a stream that must arrive whole.
# The first 64 KiB of the disk are this text. A read of random numbers ends early when the guest freezes its processes to be moved: hence the full blocks.
LOAD = """
memory() {
    dd if=/dev/urandom of=/tmp/kept bs=64k count=32 iflag=fullblock 2>/dev/null
    sum=$(sha1sum </tmp/kept)
    while [ ! -e /tmp/stop ]; do
        for part in 1 2 3; do dd if=/dev/urandom of=/tmp/part.$part bs=64k count=2 iflag=fullblock 2>/dev/null; sha1sum /tmp/part.$part >/tmp/sum.$part; done
        for part in 1 2 3; do sha1sum -cs /tmp/sum.$part || echo part $part >>/tmp/wrong; done
        [ "$(sha1sum </tmp/kept)" = "$sum" ] || echo memory >>/tmp/wrong
        echo memory >>/tmp/rounds
        usleep 200000
    done
}
disk() {
    n=0
    while [ ! -e /tmp/stop ]; do
        n=$((n % 64 + 1))
        dd if=/dev/urandom of=/tmp/block bs=64k count=1 iflag=fullblock 2>/dev/null
        dd if=/tmp/block of=/dev/xvda bs=64k seek=$n oflag=direct conv=notrunc 2>/dev/null || echo write >>/tmp/wrong
        dd if=/dev/xvda bs=64k skip=$n count=1 iflag=direct 2>/dev/null | cmp -s - /tmp/block || echo disk >>/tmp/wrong
        echo disk >>/tmp/rounds
        usleep 100000
    done
}
clock() {
    while [ ! -e /tmp/stop ]; do
        read now rest </proc/uptime
        now=${now%.*}${now#*.}
        [ $now -ge ${last:-$now} ] || echo clock $last $now >>/tmp/wrong
        gap=$((now - ${last:-$now}))
        [ $gap -lt 20 ] || echo $gap >>/tmp/gaps
        last=$now
        usleep 20000
    done
}
stream() {
    n=0
    while [ ! -e /tmp/stop ]; do n=$((n + 1)); echo $n; usleep 10000; done | nc 192.168.77.1 7777
    echo stream >>/tmp/rounds
}
memory & disk & clock & stream &
"""


@pytest.fixture(scope="module")
def dom0(request, slow):
    if not slow:
        booted = request.getfixturevalue("toolstack")
        bring_load(booted)
        yield booted
        return
    booted = start_toolstack("migrate", memory=4096)
    bring_load(booted)
    yield booted
    booted.stop()


def bring_load(dom0):
    dom0.check(f"cat >/tmp/load <<'END'\n{LOAD}\nEND\ndd if=/tmp/load of=/tmp/disk.img bs=64k conv=notrunc,sync 2>/dev/null")


def migrate(dom0, name):
    """To this same machine: the toolstack's other end is a command of its own here."""
    dom0.check(f"timeout 350 xl -v migrate -s '' {name} 'xl migrate-receive' >/tmp/migrate.log 2>&1 || {{ cat /tmp/migrate.log; false; }}", timeout=400)
    hear(dom0, name)


def save_and_restore(dom0, name):
    dom0.check(f"xl save {name} /tmp/{name}.save >/tmp/save.log 2>&1 && xl restore /tmp/{name}.save >>/tmp/save.log 2>&1 || "
               "{ cat /tmp/save.log; false; }", timeout=400)
    hear(dom0, name)


@contextmanager
def explained(dom0):
    """What goes wrong once in many times is shown with all that there is to know of it."""
    try:
        yield
    except BaseException:
        print(dom0.run("tail -n 60 /tmp/migrate.log /tmp/save.log; xl list; xl vcpu-list; xenstore-ls /local/domain | head -n 200; ps | grep '[x]l'; "
                       "dmesg | tail -n 40; xl debug-keys qregm; xl dmesg | tail -n 150 | sed 's/^/  /'", timeout=120)[1])
        raise


def rates(dom0):
    """What the hypervisor says of each round of each migration."""
    return [int(frames) for frames in re.findall(r"domain \d+: (\d+) frames written to", dom0.check("xl dmesg | grep ' frames written to' | sed 's/^/  /'"))]


def set_to_work(dom0, name, memory=128):
    create(dom0, name, memory=memory, vcpus=2, address=7, more=DEVICES)
    dom0.check("(tail -f /dev/null | busybox nc -l -p 7777 >/tmp/stream &)")
    in_guest(dom0, name, "mount -t tmpfs none /tmp; dd if=/dev/xvda bs=64k count=1 2>/dev/null | tr -d '\\0' >/tmp/load; . /tmp/load")


def nothing_is_wrong(dom0, name):
    said = in_guest(dom0, name, "cat /tmp/wrong 2>/dev/null; true", seconds=120)
    assert not re.search(r"^ *(memory|disk|write|clock|part)", said, re.M), said


def end_work(dom0, name):
    """What the guest has done, all of it right."""
    in_guest(dom0, name, "touch /tmp/stop; wait", seconds=120)
    nothing_is_wrong(dom0, name)
    said = in_guest(dom0, name, "sort /tmp/rounds | uniq -c; echo longest pause $(sort -n /tmp/gaps | tail -n 1) hundredths; "
                    "dmesg | grep -E \"WARNING|BUG|stalls? on|Cannot|Call Trace\"", seconds=120)
    assert re.search(r"\d+ memory", said) and re.search(r"\d+ disk", said) and re.search("1 stream", said), said
    assert not re.search(r"WARNING|BUG|stalls? on|Cannot|Call Trace", said), said
    # The stream has every number, once and in order.
    dom0.check("awk '$1 != NR { print; exit 1 }' /tmp/stream && [ $(wc -l </tmp/stream) -gt 20 ]")
    dom0.check(f"xl shutdown -w {name}", timeout=120)
    wait_until_gone(dom0, name)
    return said


def test_guest_works_on_while_it_moves(dom0, slow):
    # Linux' network front end leaves 2 MiB of receive buffers behind at each move, on any hypervisor.
    set_to_work(dom0, "mover", memory=384 if slow else 128)
    before = int(domains(dom0)["mover"][0])
    with explained(dom0):
        for done in range(50 if slow else 2):
            migrate(dom0, "mover")
            if slow or done == 0:
                save_and_restore(dom0, "mover")
            nothing_is_wrong(dom0, "mover")
    assert int(domains(dom0)["mover"][0]) > before
    print(end_work(dom0, "mover"), "frames written to in each round:", rates(dom0))
    assert max(rates(dom0)) > 0


def test_guest_works_on_while_others_come_and_go(dom0, slow):
    set_to_work(dom0, "worker")
    path = configure(dom0, "passer-by", memory=96, address=8, more='vif = ["bridge=xenbr0"]')
    for _ in range(200 if slow else 4):
        dom0.check(f"xl create -q {path} && xl destroy passer-by", timeout=120)
    print(end_work(dom0, "worker"))


def test_nothing_is_left_of_a_move(dom0):
    create(dom0, "idler")
    migrate(dom0, "idler")
    dom0.check("xl destroy idler")
    before = free_pages(dom0)
    create(dom0, "idler")
    migrate(dom0, "idler")
    dom0.check("xl destroy idler")
    assert free_pages(dom0) == before


def test_nobody_has_anything_to_complain_of(dom0):
    assert complaints(dom0) == ""
