"""One emulated machine with the hypervisor and Domain 0 on it: started, watched and driven over its serial line.

Used by ./hearth and by tests/system. Needs nothing beyond Python's standard library."""
import codecs
import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

SO_SNDBUFFORCE = 32  # for root; Python's module does not name it
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
DOM0 = os.path.join(BUILD, "dom0")
OVMF = "/usr/share/OVMF/OVMF_%s_4M.fd"
READY = "hearth-shell: ready"
# Lines of the hypervisor, which may come in the middle of a command's output.
HYPERVISOR_LINE = re.compile(r"^\((HEARTH|XEN|d\d+v?\d*)\)")
# What the hypervisor says when it falls over, and what Domain 0's kernel says.
# Behind what Domain 0 has begun to say, perhaps; but not in a log that is shown, each line behind two spaces.
FELL_OVER = re.compile(r"(?<!  )\((?:HEARTH|XEN)\) (?:\[[^]]*\] )?(?:PANIC on CPU|Panic on CPU|Stack trace)|^(?!  ).*Kernel panic", re.M)
restarts_of_qemu = []  # logs of machines whose QEMU crashed and was started once more
STATE = os.path.join(BUILD, "machines")  # of each that runs, a folder
folders_in_use = set()


class MachineError(Exception):
    """The machine did not do what it should have; the message holds the end of its serial log."""


def forget_state():
    """For who ends without stopping his machines."""
    for folder in folders_in_use:
        shutil.rmtree(folder, ignore_errors=True)


def hypervisor():
    """The file under test; HEARTH_IMAGE names another one, for instance Debian's Xen."""
    return os.environ.get("HEARTH_IMAGE") or os.path.join(BUILD, "hearth")


def is_hearth():
    return not os.environ.get("HEARTH_IMAGE") or bool(os.environ.get("HEARTH_IMAGE_IS_HEARTH"))


def default_options(memory):
    """The hypervisor's command line: a serial console, and for Domain 0 what the hypervisor can spare."""
    return f"dom0_mem={max(256, min(memory * 3 // 4, memory - 192))}M console=com1 com1=115200,8n1"


def qemu_command(*, cpus=1, memory=1024, cmdline="", dom0_cmdline="", kernel=None, initrd=None, image=None,
                 disk="virtio", disk_image=None, keep=False, net="virtio", boot="kernel", iso=None,
                 firmware_state=None, icount=False, cpu="max,smap=off", extra=()):
    """The words of QEMU's command line, without the serial line's."""
    command = ["qemu-system-x86_64", "-machine", "q35", "-cpu", cpu, "-smp", str(cpus), "-m", str(memory),
               "-display", "none", "-monitor", "none"]
    command += ["-accel", "tcg"] + (["-icount", "shift=0,sleep=off"] if icount else [])
    if boot == "kernel":
        dom0 = f"{kernel or DOM0 + '/vmlinuz'} {dom0_words(disk, dom0_cmdline)}".strip()
        modules = [dom0] + ([] if initrd == "" else [initrd or DOM0 + "/initrd"])
        command += ["-kernel", image or hypervisor(), "-append", f"{default_options(memory)} {cmdline}".strip()]
        # QEMU splits at commas and reads ",," as one.
        command += ["-initrd", ",".join(module.replace(",", ",,") for module in modules)] if kernel != "" else []
    else:
        # GRUB's menu holds the command lines.
        command += ["-drive", f"file={iso},media=cdrom,format=raw,readonly=on,if=none,id=iso",
                    "-device", "ide-cd,drive=iso,bus=ide.2,bootindex=0"]
        if boot == "uefi":
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF % 'CODE'}",
                        "-drive", f"if=pflash,format=raw,file={firmware_state}"]
    if disk != "none":
        path = disk_image or DOM0 + "/disk.img"
        command += ["-drive", f"file={path},format=raw,if=none,id=root,cache=unsafe" + ("" if keep else ",snapshot=on")]
        command += ["-device", {"virtio": "virtio-blk-pci,drive=root", "ahci": "ide-hd,drive=root,bus=ide.0",
                                "nvme": "nvme,drive=root,serial=hearth"}[disk]]
    if net == "none":
        command += ["-nic", "none"]
    else:
        command += ["-netdev", "user,id=lan", "-device",
                    {"virtio": "virtio-net-pci", "e1000": "e1000"}[net] + ",netdev=lan"]
    return command + list(extra)


def dom0_words(disk, dom0_cmdline):
    """Domain 0's command line; without a disk it stays in the initrd's shell."""
    return " ".join(word for word in ["console=hvc0", "hearth.shell" if disk == "none" else "", dom0_cmdline] if word)


def guests_disk(folder, more=()):
    """The words for a disk with build/guests and more files on it, as an archive that is made in a folder."""
    with tarfile.open(folder + "/guests.tar", "w") as archive:
        archive.add(BUILD + "/guests", ".")
        for path in more:
            archive.add(path, os.path.basename(path))
    return ["-drive", f"file={folder}/guests.tar,format=raw,if=none,id=guests,readonly=on", "-device", "virtio-blk-pci,drive=guests,serial=guests"]


def ramdisk_with(folder, name):
    """Domain 0's ramdisk, and behind it another with a file of the folder's; its path, in the folder."""
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=f"{name}\n".encode(), cwd=folder, stdout=subprocess.PIPE, check=True).stdout
    with open(DOM0 + "/initrd", "rb") as file:
        whole = file.read()
    path = os.path.join(folder, "ramdisk")
    with open(path, "wb") as file:
        file.write(whole + bytes(-len(whole) % 4) + archive)
    return path


def debian_disks(count):
    """The words for disks with a Debian guest's root file system, each a copy that is forgotten: /dev/disk/by-id/virtio-guestroot1 ..."""
    words = []
    for name in [f"guestroot{number + 1}" for number in range(count)]:
        words += ["-drive", f"file={DOM0}/guest.img,format=raw,if=none,id={name},cache=unsafe,snapshot=on", "-device", f"virtio-blk-pci,drive={name},serial={name}"]
    return words


class Machine:
    """with Machine(cpus=2) as machine: machine.wait_ready(); status, output = machine.run("nproc")"""

    def __init__(self, log=None, echo=None, guests=False, more_guests=(), debian_guests=0, **options):
        self.options = options
        self.guests = guests  # whether there is a disk with the test guests on it
        self.more_guests = more_guests  # files that are on that disk too
        self.debian_guests = debian_guests  # how many disks there are for Debian as a guest
        self.echo = echo  # called with each piece of serial text
        self.log_path = log
        self.text = ""
        self.position = 0  # what wait_for has consumed
        self.commands = 0
        os.makedirs(STATE, exist_ok=True)
        self.state = tempfile.mkdtemp(dir=STATE)
        folders_in_use.add(self.state)
        self.process = self.line = self.log = None
        self.fell_over = None  # how, if it did: nobody asks it anything then
        self.looked_at = 0  # so far for its falling over

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        self.stop()

    def start(self):
        if self.options.get("boot") == "uefi":
            self.options["firmware_state"] = shutil.copy(OVMF % "VARS", self.state)
        if self.guests:
            self.options["extra"] = [*self.options.get("extra", ()), *guests_disk(self.state, self.more_guests)]
        self.options["extra"] = [*self.options.get("extra", ()), *debian_disks(self.debian_guests)]
        self.log = open(self.log_path, "w", encoding="utf-8", errors="replace") if self.log_path else None
        return self.launch()

    def launch(self):
        ours, theirs = socket.socketpair()
        # QEMU writes byte by byte, each of which costs the kernel nearly a KiB, and at its end it forgets what did not fit.
        with contextlib.suppress(PermissionError):
            theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
        command = qemu_command(**self.options)
        command += ["-chardev", f"socket,id=serial,fd={theirs.fileno()}", "-serial", "chardev:serial"]
        self.errors = tempfile.TemporaryFile()
        # QEMU must not outlive us, whatever ends us.
        command = ["setpriv", "--pdeathsig", "KILL", *command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                        pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        ours.setblocking(False)
        self.line = ours
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.line:
            with contextlib.suppress(OSError):
                self.pump(0)
            self.line.close()
            self.line = None
        if self.log:
            self.log.close()
            self.log = None
        shutil.rmtree(self.state, ignore_errors=True)
        folders_in_use.discard(self.state)

    def pump(self, seconds):
        """Takes in what the serial line says, waiting at most this long; False when QEMU has ended."""
        ended = self.process.poll() is not None  # asked first: who ends while this waits may have said something
        if self.line is None or not select.select([self.line], [], [], seconds)[0]:
            return not ended
        try:
            data = self.line.recv(65536)
        except BlockingIOError:
            return True
        except ConnectionError:
            data = b""
        if not data:
            # The line closes a moment before the process has ended.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
            return False
        text = self.decoder.decode(data).replace("\r", "")
        self.text += text
        if self.log:
            self.log.write(text)
            self.log.flush()
        if self.echo:
            self.echo(text)
        return True

    def fail(self, message):
        self.errors.seek(0)
        complaints = self.errors.read().decode(errors="replace").strip()
        last = "\n".join("    | " + line for line in self.text.splitlines()[-40:])
        raise MachineError(message + (f"\nQEMU says: {complaints}" if complaints else "") +
                           f"\nthe serial log's end{f' (all of it: {self.log_path})' if self.log_path else ''}:\n{last}")

    def fail_if_it_fell_over(self, since, what):
        """Looks at the lines that have come since it last looked, and since then."""
        begin = max(since, self.looked_at)
        self.looked_at = self.text.rfind("\n", 0, max(0, len(self.text) - 1)) + 1
        if FELL_OVER.search(self.text, begin):
            self.fell_over = f"the machine fell over during {what}"
            end = time.monotonic() + 2  # for the rest of what it says
            while (left := end - time.monotonic()) > 0 and self.pump(left):
                pass
            self.fail(self.fell_over)

    def wait_for(self, pattern, timeout=60, may_fall_over=False):
        """The match of a pattern in what has come since the last match; fails at once when the machine falls over."""
        wanted = re.compile(pattern, re.M)
        end = time.monotonic() + timeout
        while True:
            match = wanted.search(self.text, self.position)
            if match:
                self.position = match.end()
                return match
            if not may_fall_over:
                self.fail_if_it_fell_over(self.position, f"the wait for {pattern!r}")
            left = end - time.monotonic()
            if left <= 0:
                self.fail(f"no {pattern!r} within {timeout:.0f} s")
            if not self.pump(min(left, 1)) and not wanted.search(self.text, self.position):
                self.fail(f"QEMU ended (status {self.process.poll()}) while waited for {pattern!r}")

    def send(self, text):
        """Types at the serial line, no faster than a small receive buffer can take."""
        data = text.encode()
        for start in range(0, len(data), 16):
            try:
                self.line.sendall(data[start : start + 16])
            except ConnectionError:
                self.pump(0)
                self.process.wait()
                self.fail(f"QEMU ended (status {self.process.returncode}) while {text.strip()[:70]!r} was typed")
            self.pump(0.002)

    def wait_ready(self, timeout=240):
        """Waits for Domain 0's shell and makes it quiet."""
        try:
            self.wait_for(re.escape(READY), timeout)
        except MachineError as failure:
            if self.process.poll() != -signal.SIGSEGV:
                raise
            # QEMU 7.2 itself: one CPU uses a device's memory while another moves devices about, as at the probing of PCI.
            print(f"QEMU crashed, and is started once more: {failure}", file=sys.stderr)
            restarts_of_qemu.append(self.log_path)
            self.line.close()
            self.text, self.position, self.looked_at = "", 0, 0
            self.launch().wait_for(re.escape(READY), timeout)
        # The prompt comes last, but for busybox' question where the cursor is; a kernel message may hide it, so this wait may also run out.
        with self.may_not_answer():
            self.wait_for(r"[#$] (\x1b\[6n)?\Z", timeout=10)
        for _ in range(15):
            # Typed again until it is heard: while the shell sets up its terminal, input is thrown away.
            self.send("\nPS1= PS2=; stty -echo; dmesg -n 1; echo rea''dy-to-work\n")
            with self.may_not_answer():
                self.wait_for(r"ready-to-work", timeout=4)
                self.teach()
                return self
            if self.process.poll() is not None:
                break
        self.fail("Domain 0's shell does not answer")

    def teach(self):
        """Defines what run() uses in Domain 0's shell. Bracketed paste would put control codes between the lines."""
        lines = ["bind 'set enable-bracketed-paste off' 2>/dev/null; typed=; true",
                 r"begin() { printf '\n@@begin %s:\n' $1; }; end() { printf '\n@@end %s %s:\n' $1 $2; }",
                 'run() { begin $1; (eval "$typed") </dev/null 2>&1; end $1 $?; typed=; }']
        for number, line in enumerate(lines):
            for _ in range(8):
                self.send(f"{line} && echo @@le''arnt {number}:\n")
                with self.may_not_answer():
                    self.wait_for(rf"@@learnt {number}:\n", timeout=5)
                    break
            else:
                self.fail("Domain 0's shell does not learn its lines")

    def unpack_guests(self):
        """Leaves the test guests in Domain 0's /guests."""
        self.check("mkdir /guests && tar -C /guests -xf /dev/disk/by-id/virtio-guests")

    @contextlib.contextmanager
    def may_not_answer(self):
        """What is asked is asked again, unless the machine fell over."""
        try:
            yield
        except MachineError:
            if self.fell_over:
                raise

    def type_command(self, command):
        """Leaves a command in the shell's variable `typed`. On a busy machine the serial line may lose
        characters, so it goes in short pieces, each repeated until its length is right."""
        for start in range(0, len(command), 64):
            piece = command[start : start + 64]
            for attempt in range(8):
                if attempt:
                    self.send("\x03\n")  # out of the quotes that it may still be in
                self.send(f"t=$'{''.join(map(quoted, piece))}'; echo @@got {start} ${{#t}}:\n")
                with self.may_not_answer():
                    # Counted in letters or in bytes, as its locale has it.
                    self.wait_for(rf"@@got {start} ({len(piece)}|{len(piece.encode())}):\n", timeout=5)
                    break
            else:
                self.fail("Domain 0's shell does not hear what is typed")
            self.send("typed=$typed$t\n")

    def run(self, command, timeout=120, live=None):
        """Runs a command in Domain 0's shell: (exit status, output). live is called with each line as it comes."""
        if self.fell_over:
            raise MachineError(self.fell_over)
        self.commands += 1
        number = self.commands
        self.type_command(command)
        self.send(f"run {number}\n")
        self.wait_for(rf"@@begin {number}:\n", timeout=60)
        start = shown = self.position
        end = time.monotonic() + timeout
        marker = re.compile(rf"\n@@end {number} (\d+):", re.M)
        while True:
            match = marker.search(self.text, start)
            if live:
                # Whole lines only, and not the last: its newline may be the one that comes before the marker.
                stop = match.start() if match else self.text.rfind("\n", shown, max(shown, self.text.rfind("\n", shown))) + 1
                if stop > shown:
                    live(without_hypervisor_lines(self.text[shown:stop]))
                    shown = stop
            if match:
                self.position = match.end()
                return int(match[1]), without_hypervisor_lines(self.text[start : match.start()])
            what = f"`{command.strip().splitlines()[0][:70]}`"
            self.fail_if_it_fell_over(start, what)
            if time.monotonic() > end:
                self.send("\x03\ntyped=\n")  # the shell goes on without it
                self.fail(f"no end of {what} within {timeout:.0f} s")
            if not self.pump(0.5) and not marker.search(self.text, start):
                self.fail(f"QEMU ended (status {self.process.poll()}) during {what}")

    def check(self, command, timeout=120):
        """The output of a command that must succeed."""
        status, output = self.run(command, timeout)
        if status != 0:
            raise MachineError(f"`{command}` in Domain 0: status {status}, output:\n{output}")
        return output.strip()

    def wait_end(self, timeout=60):
        """Waits until QEMU has ended of itself; its exit status."""
        end = time.monotonic() + timeout
        while self.pump(0.5):
            if time.monotonic() > end:
                self.fail(f"QEMU still runs after {timeout:.0f} s")
        return self.process.wait()

    def poweroff(self, timeout=90):
        self.send("poweroff\n")
        return self.wait_end(timeout)


def quoted(character):
    """As it stands between $' and ' in a shell's line."""
    if character.isascii() and character.isprintable() and character not in "'\\!":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode())


def without_hypervisor_lines(text):
    return "".join(line for line in text.splitlines(True) if not HYPERVISOR_LINE.match(line))
