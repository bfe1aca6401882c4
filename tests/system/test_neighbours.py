"""Guests that misbehave beside Domain 0 and a second guest, which go on answering; and what is asked of the toolstack that cannot be."""
import re

import pytest
from conftest import complaints
from guests import DEVICES, configure, create, domains, free_pages, hear, heard, in_guest, listen

pytestmark = pytest.mark.hearth_only
SMALL = 'name = "{name}"\nkernel = "/guests/{name}"\nmemory = {memory}\nvcpus = {vcpus}\nextra = "{extra}"\non_crash = "preserve"\non_poweroff = "preserve"\n'


@pytest.fixture(scope="module")
def dom0(toolstack):
    # The second guest, for as long as this file takes.
    create(toolstack, "witness", address=8, more='vif = ["bridge=xenbr0"]')
    return toolstack


@pytest.fixture(autouse=True)
def nobody_else_stays(dom0):
    """What a failed test leaves is in no other's way."""
    yield
    for name in domains(dom0).keys() - {"witness"}:
        dom0.run(f"xl destroy {name}")


def start(dom0, name, memory=8, vcpus=1, extra=""):
    dom0.check(f"cat >/tmp/{name}.cfg <<'END'\n{SMALL.format(name=name, memory=memory, vcpus=vcpus, extra=extra)}\nEND\nxl create -p /tmp/{name}.cfg", timeout=60)
    listen(dom0, name)


def all_are_well(dom0):
    """The second guest answers by its console and its network card; so does Domain 0, which is asked."""
    assert " 0% packet loss" in dom0.check("ping -c 3 -i 0.2 192.168.77.8")
    assert "Linux" in in_guest(dom0, "witness", "uname")


def pages_beside_witness(dom0):
    return free_pages(dom0, others=1)


def test_guest_that_wants_everything(dom0):
    before = None
    for _ in range(2):  # once for what Hearth keeps for the next time
        start(dom0, "greedy")
        said = heard(dom0, "greedy", "GUEST greedy:", since="^")
        assert "GUEST greedy: ok" in said, said
        all_are_well(dom0)
        assert int(domains(dom0)["greedy"][1]) <= 9  # the toolstack's limit is 1 MiB above what it gives
        dom0.check("xl destroy greedy")
        after = pages_beside_witness(dom0)
        assert before is None or after == before
        before = after


def test_guest_that_floods_domain_0_is_ended_in_the_middle(dom0):
    before = None
    for _ in range(4):
        start(dom0, "flood")
        heard(dom0, "flood", "flood: begins", since="^")
        all_are_well(dom0)
        dom0.check("xl destroy flood")
        after = pages_beside_witness(dom0)
        assert before is None or after == before
        before = after


# Of those that test_attacks.py runs as Domain 0: what they try needs no privileges.
ADVERSARIAL = ["cpu", "descriptors", "entry", "first_states", "table_writes", "tables", "vcpus"]


def test_adversarial_guests_harm_nobody_and_end_in_the_middle(dom0):
    before = None
    for name in ADVERSARIAL:
        start(dom0, name, memory=32, vcpus=4)
        said = heard(dom0, name, f"GUEST {name}:", since="^")
        assert f"GUEST {name}: ok" in said, said
        dom0.check(f"xl destroy {name}")
        before = before or pages_beside_witness(dom0)
    in_the_middle = 0
    for name in ADVERSARIAL:
        start(dom0, name, memory=32, vcpus=4, extra="again")
        dom0.check(f"timeout 60 sh -c 'until grep -q ^CASE /tmp/{name}.out; do :; done' && xl destroy {name}", timeout=90)
        in_the_middle += f"GUEST {name}:" not in dom0.check(f"cat /tmp/{name}.out")
    assert in_the_middle
    all_are_well(dom0)
    assert pages_beside_witness(dom0) == before


def test_guest_ends_in_the_middle_of_hypercalls(dom0):
    before = None
    for _ in range(4):
        start(dom0, "busy")
        heard(dom0, "busy", "busy: begins", since="^")
        dom0.check("xl destroy busy")
        said = dom0.check("cat /tmp/busy.out")
        assert "line" not in said, said
        after = pages_beside_witness(dom0)
        assert before is None or after == before
        before = after


# With pauses, in which the toolstack gets on: the block back end keeps what it has mapped.
WORK = ("(while :; do dd if=/dev/zero of=/dev/xvda bs=256k count=16 oflag=direct; sleep 0.2; done >/dev/null 2>&1 &) ; "
        "(while :; do dd if=/dev/xvda of=/dev/null bs=256k count=16 iflag=direct; sleep 0.2; done >/dev/null 2>&1 &); "
        "(while :; do dd if=/dev/zero bs=1k count=64 2>/dev/null | nc -w 1 192.168.77.1 9; ping -c 20 -i 0.1 -s 1400 192.168.77.1; done >/dev/null 2>&1 &)")
AT_WORK = "/tmp/at-work.save"
# Lets so many bytes through, and the rest when it is opened.
GATE = "head -c $1; touch /tmp/reached; until [ -e /tmp/open ]; do sleep 0.1; done; exec cat"
GATED_RECEIVER = "exec xl migrate-receive < <(/tmp/gate $1)"


@pytest.fixture(scope="module")
def pages(dom0):
    """The free pages beside the witness, when all has happened once that Hearth keeps something of for the next time; and there is a saved guest that is at
    work as soon as it is restored."""
    dom0.check(f"mkfifo /tmp/pipe; (echo '#!/bin/sh'; echo '{GATE}') >/tmp/gate; (echo '#!/bin/bash'; echo '{GATED_RECEIVER}') >/tmp/receive; "
               "chmod 755 /tmp/gate /tmp/receive")
    create(dom0, "dying", memory=128, vcpus=2, address=7, more=DEVICES)
    in_guest(dom0, "dying", WORK)
    dom0.check(f"xl save dying {AT_WORK} 2>&1", timeout=120)
    at_work(dom0)
    dom0.check("xl migrate -s '' dying 'xl migrate-receive' 2>&1 && xl destroy dying", timeout=120)
    return pages_beside_witness(dom0)


def at_work(dom0):
    """Its back ends have frames of it mapped at any moment."""
    dom0.check(f"xl restore {AT_WORK} 2>&1; back=/local/domain/0/backend/vbd/$(xl domid dying)/51712; export back; "
               "timeout 60 sh -c 'until [ \"$(xenstore-read $back/state)\" = 4 ]; do sleep 0.1; done'; sleep 1", timeout=120)


def die_at_work(dom0):
    at_work(dom0)
    dom0.check("xl destroy dying")


def die_paused_at_work(dom0):
    at_work(dom0)
    dom0.check("xl pause dying && xl destroy dying")


def die_never_run(dom0):
    dom0.check(f"xl create -p {configure(dom0, 'dying', memory=96, more=DEVICES)} && xl destroy dying", timeout=60)


@pytest.mark.parametrize("die", [die_at_work, die_paused_at_work, die_never_run], ids=lambda die: die.__name__)
def test_guest_dies(dom0, pages, die):
    die(dom0)
    assert pages_beside_witness(dom0) == pages
    all_are_well(dom0)


# Commands of the toolstack that are stopped in the middle, and when it is one that makes a domain, how far the toolstack has come by what there is of it.
COMMANDS = {
    "make": "xl create -p /tmp/dying.cfg",
    "restore": f"/tmp/gate {{size}} <{AT_WORK} >/tmp/pipe & xl restore /tmp/pipe",
    "save": "/tmp/gate {size} </tmp/pipe >/dev/null & xl save dying /tmp/pipe",
    "move": "xl migrate -s '' dying '/tmp/receive {size}'",
}
PATHS = ["/console/ring-ref", "", "/device/vbd", "/device/vif"]
SIZES = [size << 10 for size in [40000, 16, 100000]]
# What happens then. $command is the toolstack's process, $guest the guest that it works on, $domain the one that it makes.
DEEDS = {
    "guest_destroyed": "xl destroy $guest",
    "guest_crashed": "echo 'echo c >/proc/sysrq-trigger' >$(xenstore-read /local/domain/$guest/console/tty); "
                     "timeout 60 sh -c 'until xl list dying | grep -q -- ---sc-; do sleep 0.2; done' || exit 1",
    "domain_destroyed": "xl destroy $domain",
    "toolstack_killed": "kill -9 $command",
    "receiver_killed": "pkill -9 -f 'bin/xl migrate-receive'",
}
WHEN = {
    "make": ["domain_destroyed", "toolstack_killed"],
    "restore": ["domain_destroyed", "toolstack_killed"],
    "save": ["guest_destroyed", "toolstack_killed"],
    "move": ["guest_destroyed", "guest_crashed", "domain_destroyed", "toolstack_killed", "receiver_killed"],
}
NEWEST = "$(xenstore-list /local/domain | sort -n | tail -n 1)"


def cut_short(dom0, command, moment, deed):
    """The command must not succeed."""
    dom0.check(f"rm -f /tmp/reached /tmp/open; newest={NEWEST}; guest=$(xl domid dying 2>/dev/null)\n"
               f"{command} >/tmp/cut-short.log 2>&1 & command=$!\n"
               f"until domain={NEWEST}; {moment}; do kill -0 $command || {{ cat /tmp/cut-short.log; exit 1; }}; sleep 0.1; done 2>/dev/null\n"
               f"{DEEDS[deed]}; touch /tmp/open; ! wait $command || {{ cat /tmp/cut-short.log; exit 1; }}\n"
               "timeout 60 sh -c 'while pgrep -x libxl-save-help; do sleep 0.1; done'", timeout=120)


def take_away_what_is_left(dom0):
    """As an administrator does after a toolstack that was killed."""
    for name, (domain, *_) in domains(dom0).items():
        if name != "witness":
            dom0.check(f"xl destroy {domain}")


@pytest.mark.parametrize("what, deed", [(what, deed) for what, deeds in WHEN.items() for deed in deeds])
def test_guest_dies_in_the_middle(dom0, pages, slow, what, deed):
    configure(dom0, "dying", memory=96, more=DEVICES)
    moments = [f"[ $domain != $newest ] && xenstore-exists /local/domain/$domain{path}" for path in PATHS] if what == "make" else SIZES
    for moment in moments if slow else moments[:1]:
        if what in ("save", "move"):
            at_work(dom0)
        if what == "make":
            cut_short(dom0, COMMANDS[what], moment, deed)
        else:
            cut_short(dom0, COMMANDS[what].format(size=moment), "[ -e /tmp/reached ]", deed)
        take_away_what_is_left(dom0)
        assert pages_beside_witness(dom0) == pages
    all_are_well(dom0)


@pytest.mark.parametrize("deed", ["toolstack_killed", "receiver_killed"])
def test_guest_lives_on_when_its_move_fails(dom0, pages, deed):
    """Its writes may still be logged then."""
    create(dom0, "dying", memory=128, vcpus=2, address=7, more=DEVICES)
    in_guest(dom0, "dying", WORK)
    guest = int(domains(dom0)["dying"][0])
    cut_short(dom0, COMMANDS["move"].format(size=SIZES[0]), "[ -e /tmp/reached ]", deed)
    dom0.run("xl destroy dying--incoming")
    assert int(domains(dom0)["dying"][0]) == guest
    assert "Linux" in in_guest(dom0, "dying", "uname")
    dom0.check("xl migrate -s '' dying 'xl migrate-receive' 2>&1", timeout=120)
    hear(dom0, "dying")
    assert "Linux" in in_guest(dom0, "dying", "uname") and int(domains(dom0)["dying"][0]) > guest
    dom0.check("xl destroy dying")
    assert pages_beside_witness(dom0) == pages


# Words of a configuration that cannot be, and what xl says.
MISTAKES = [
    ({"more": 'disk = ["format=raw,vdev=xvda,access=rw,target=/nowhere.img"]'}, "nowhere.img"),
    ({"more": 'vif = ["bridge=nowhere"]'}, "bridge|vif|hotplug"),
    ({"more": 'ramdisk = "/nowhere"'}, "nowhere"),
    ({"kernel": "/bin/busybox"}, "kernel"),
    ({"kernel": "/nowhere"}, "nowhere"),
    ({"memory": 4096}, "(?i)memory"),
]


def make_mistakes(dom0):
    for options, reason in MISTAKES:
        status, said = dom0.run(f"xl create -q {configure(dom0, 'mistake', **options)} 2>&1", timeout=120)
        assert status != 0 and re.search(reason, said), said
        assert set(domains(dom0)) == {"witness"}


def test_mistakes_are_named_and_leave_nothing(dom0):
    make_mistakes(dom0)
    before = pages_beside_witness(dom0)
    make_mistakes(dom0)
    assert pages_beside_witness(dom0) == before


def test_cut_ramdisk_ends_the_guest_only(dom0):
    dom0.check("head -c 1000000 /boot/initrd >/tmp/cut.initrd")
    path = configure(dom0, "cut", more='ramdisk = "/tmp/cut.initrd"')
    dom0.check(f"xl create -q {path}; timeout 90 sh -c 'until xl list cut | grep -q -- ---sc-; do sleep 0.2; done'; xl destroy cut", timeout=120)
    all_are_well(dom0)


def test_nobody_else_has_anything_to_complain_of(dom0):
    assert complaints(dom0) == ""
