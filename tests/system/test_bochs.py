"""Debian's kernel on Bochs' processors, which have what QEMU's emulated ones lack: SMAP without a flaw, x2APIC, the TSC
deadline timer, PCID. One boot by GRUB to the ramdisk, some work there, and power-off; one and a half minutes each where nothing else runs."""
import contextlib
import os
import re
import struct
import subprocess
import time

import pytest
from conftest import LOGS

import commands
import machine

pytestmark = [pytest.mark.slow, pytest.mark.hearth_only]

# The ramdisk's last words end the test: nothing can be typed on Bochs' serial port, which is a file.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
echo "on Bochs: $(cat /sys/hypervisor/type), $(nproc) CPUs"
for cpu in $(seq 0 $(($(nproc) - 1))); do taskset $((1 << cpu)) sh -c 'seq 200 | wc -l'; done
dmesg | grep -E 'WARNING: CPU|BUG:|Oops|self-detected stall|detected stalls|soft lockup' && echo "on Bochs: complaints"
echo "on Bochs: done"
poweroff -f
"""

CONFIGURATION = """\
config_interface: textconfig
display_library: rfb, options="timeout=0"
cpu: model={model}, count={cpus}, ips=100000000, reset_on_triple_fault=0
megs: 512
romimage: file=/usr/share/seabios/bios.bin
vgaromimage: file=/usr/share/seabios/vgabios-stdvga.bin
pci: enabled=1, chipset=i440fx
cmosimage: file={folder}/cmos, rtc_init=time0
ata0-master: type=cdrom, path={folder}/iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={folder}/serial
clock: sync=none, time0=utc
speaker: enabled=0
log: {folder}/log
panic: action=fatal
error: action=ignore
info: action=ignore
"""


def ramdisk(folder):
    """Domain 0's, with our first program."""
    (folder / "test").write_text(INIT)
    (folder / "test").chmod(0o755)
    return machine.ramdisk_with(folder, "test")


def cmos_image(cpus, memory=512):
    """What Bochs would put there, and where SeaBIOS looks for the number of other processors, which Bochs does not tell."""
    cmos = bytearray(128)
    cmos[0x0A:0x0E] = b"\x26\x02\x00\x80"  # clock runs, 24 hours, battery good
    cmos[0x14:0x19] = b"\x0f\x80\x02\x00\xfc"  # equipment; memory in KiB: 640, and at most 63 MiB
    cmos[0x30:0x32] = b"\x00\xfc"
    cmos[0x34:0x36] = struct.pack("<H", (memory - 16) * 16)  # above 16 MiB, in 64 KiB
    cmos[0x3D] = 3  # from CD
    cmos[0x5F] = cpus - 1
    return cmos


def run(folder, name, model, cpus, end_of_test):
    """What the machine says on its serial port until it ends, or has said what ends the test."""
    (folder / "cmos").write_bytes(cmos_image(cpus))
    (folder / "bochsrc").write_text(CONFIGURATION.format(model=model, cpus=cpus, folder=folder))
    (folder / "start").write_text("c\n")  # the debugger is built in and waits otherwise
    log = os.path.join(LOGS, f"bochs-{name}-{model}-{cpus}.log")
    os.makedirs(LOGS, exist_ok=True)
    with open(log + ".bochs", "w") as output:
        # Bochs' reader of configurations overflows with a large environment.
        bochs = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "bochs", "-q", "-f", str(folder / "bochsrc"), "-rc", str(folder / "start")],
                                 env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        serial, text, end = folder / "serial", "", time.monotonic() + 900
        try:
            running = True
            while running and not re.search(rf"PANIC|Kernel panic|cannot start|{end_of_test}", text):
                assert time.monotonic() < end, text[-2000:]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    bochs.wait(timeout=1)
                    running = False
                text = serial.read_text(errors="replace").replace("\r", "") if serial.exists() else ""
        finally:
            bochs.kill()
            bochs.wait()
            with open(log, "w") as file:
                file.write(text)
    return text


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("model", ["corei7_skylake_x", "ryzen"])
def test_boots_and_powers_off(tmp_path, model, cpus):
    commands.make_iso(str(tmp_path / "iso"), "dom0_mem=320M console=com1 com1=115200,8n1", "console=hvc0 rdinit=/test", ramdisk(tmp_path))
    text = run(tmp_path, "debian", model, cpus, end_of_test="(?!)")
    # It ends of itself when its power management is told to.
    assert "ACPI control: soft power off" in (tmp_path / "log").read_text(), text[-2000:]
    assert "on Bochs: done\n" in text and f"on Bochs: xen, {cpus} CPUs\n" in text, text[-2000:]
    assert text.count("\n200\n") == cpus
    assert "on Bochs: complaints" not in text
    wanted = ["SMAP", "x2APIC", "TSC deadline", "PCID"] if model.startswith("corei7") else ["SMAP"]
    for feature in wanted:
        assert re.search(rf"\(HEARTH\).*{feature}", text), feature


@pytest.mark.parametrize("options", ["", "xsave=no"])
def test_first_state_that_the_processor_refuses_to_load(tmp_path, options):
    """QEMU's emulation takes any MXCSR."""
    (tmp_path / "nothing").write_text("")
    commands.make_iso(str(tmp_path / "iso"), f"dom0_mem=320M dom0_max_vcpus=4 console=com1 com1=115200,8n1 {options}", "",
                      str(tmp_path / "nothing"), os.path.join(machine.BUILD, "guests/first_states"))
    text = run(tmp_path, "first-states" + options, "ryzen", 1, end_of_test=r"GUEST first_states: \w+")
    assert "GUEST first_states: ok" in text, text[-2000:]
