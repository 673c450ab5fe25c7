"""What keeps the kernels of one sandbox apart: namespaces, limits, and no way back.

Linux only, and only inside bubblewrap (see `sandbox`), which keeps the rest of the machine out.
Here a process is forked into a process tree of its own, gives itself a network and temporary
directories of its own, and then gives up every right to change them.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct

_libc = ctypes.CDLL(None, use_errno=True)

# <sched.h>, <sys/mount.h>, <sys/prctl.h>
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 24, 38, 22
LAST_CAPABILITY = 40

# Machine → its number in <linux/audit.h>, and the column of the table below.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CLONE, _CLONE3 = (56, 220), 435
# System calls that student code has no use for: they make or enter namespaces, mount, trace other
# processes, or reach deep into the system.
_DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    _call("prctl", PR_SET_PDEATHSIG, 9, 0, 0, 0)


def lead(with_proc: bool = False) -> None:
    """Go on in a child that may give each of its own children a process tree of its own.

    What called this waits there for the child's end, and ends as it did. There must be one thread.

    Args:
        with_proc: whether those children will have a `/proc` of their own. Linux allows that to
            those only who already see one with nothing mounted on it.

    """
    if with_proc:
        for folder in _mounted_beneath("/proc"):
            _call("umount2", folder.encode(), 0)
    _leave(NEWUSER | NEWPID)
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        os._exit(1 if status else 0)


def fork_apart() -> tuple[int, str]:
    """Fork a child that is the first process of a tree of its own; it sees no other process.

    Only after `lead`, which gives the right to do so.

    Returns:
        The child's process id, and the name of its tree; 0 and no name in the child.

    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _call("unshare", NEWPID)
    pid, tree = os.fork(), ""
    if pid:
        tree = os.readlink("/proc/self/ns/pid_for_children")
        # Else the next child would belong to the same tree.
        _call("setns", own, NEWPID)
    os.close(own)
    return pid, tree


def isolate(hidden: str, writable: dict[str, str], with_proc: bool = False) -> None:
    """Put this process into namespaces of its own: file systems, network, and what they belong to.

    Args:
        hidden: a folder that becomes empty. A process that works in a folder beneath it goes on
            doing so, and has no way back once it has left.
        writable: directory → size limit, as in `{"/tmp": "256m"}`; each becomes an empty private
            file system in memory.
        with_proc: whether there is a `/proc`, with this process's tree and no other; only what is
            about the first process of the tree can be written to.

    """
    if with_proc:
        # Later on the right to do so is gone: the tree belongs to the namespace of `lead`.
        _call("unshare", NEWNS)
        _mount(None, "/", None, MS_REC | MS_PRIVATE)
        careful = MS_NOSUID | MS_NODEV | MS_NOEXEC
        _mount("proc", "/proc", "proc", careful)
        # Root could write to the settings of the whole machine there, even without any right.
        _mount("/proc/1", "/proc/1", None, MS_BIND)
        _mount(None, "/proc", None, MS_REMOUNT | MS_BIND | MS_RDONLY | careful)
    _leave(NEWUSER | NEWNS | NEWNET | NEWIPC)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", hidden, "tmpfs", MS_RDONLY, "size=4k")
    for folder, size in writable.items():
        _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode=700")
    if not with_proc:
        # No other process can be seen from here; this hides what the old /proc still shows.
        _mount("tmpfs", "/proc", "tmpfs", MS_RDONLY, "size=4k")


def give_up_rights() -> None:
    """No capabilities, no way to gain any, and no system calls that reach out of the namespaces."""
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("II", 0x20080522, 0)
    _call("capset", header, bytes(24))
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _filter_system_calls()


def mapped() -> int:
    """Bytes of address space that this process has; cannot be asked once `/proc` is hidden."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit(
    memory: int,
    cpu_seconds: int,
    processes: int,
    open_files: int,
    file_size: int,
    any_address: bool = False,
) -> None:
    """Set limits that can only be lowered from now on.

    Args:
        memory: bytes of address space, with what is mapped already; see `mapped`.
        cpu_seconds: processor time of one process.
        processes: and threads, all together.
        open_files: in one process.
        file_size: bytes of one file.
        any_address: leave memory to whoever watches `sizes`; CUDA reserves more addresses than
            there is memory.

    """
    for kind, most in (
        (resource.RLIMIT_AS, resource.RLIM_INFINITY if any_address else memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def sizes() -> dict[str, list[int]]:
    """Bytes of memory of each process that can be seen, by the name of its tree."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # A process that has just ended has no tree.
        with contextlib.suppress(OSError):
            tree = os.readlink(f"/proc/{pid}/ns/pid")
            with open(f"/proc/{pid}/statm") as file:
                pages = int(file.read().split()[1])
            found.setdefault(tree, []).append(pages * resource.getpagesize())
    return found


def _mounted_beneath(folder):
    """Where something is mounted beneath a folder, the innermost first."""
    with open("/proc/self/mountinfo") as file:
        places = [line.split()[4] for line in file]
    return [place for place in reversed(places) if place.startswith(f"{folder}/")]


def _leave(namespaces):
    """For new ones, in which this process is who it was and has every right."""
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", namespaces)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _filter_system_calls():
    """A classic BPF program (see seccomp(2)) that refuses what `_DENIED` lists."""
    if platform.machine() not in _MACHINES:
        raise OSError(f"the sandbox knows no system calls of {platform.machine()}")
    arch, column = _MACHINES[platform.machine()]
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, arch),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),
        # The second set of numbers that x86-64 machines understand.
        (at_least, 0, 1, 0x40000000),
        (answer, 0, 0, refuse | errno.ENOSYS),
        # The flags of clone3 lie in memory, where no filter can look; without it libc takes clone.
        (equal, 0, 1, _CLONE3),
        (answer, 0, 0, refuse | errno.ENOSYS),
    ]
    for numbers in _DENIED.values():
        program += [(equal, 0, 1, numbers[column]), (answer, 0, 0, refuse | errno.EPERM)]
    program += [
        (equal, 0, 3, _CLONE[column]),
        (load, 0, 0, 16),
        (any_bit, 0, 1, NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC),
        (answer, 0, 0, refuse | errno.EPERM),
        (answer, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    pointer = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    _call("prctl", PR_SET_SECCOMP, 2, pointer, 0, 0)


def _mount(source, target, kind, flags, options=None):
    encoded = [text.encode() if text else None for text in (source, target, kind)]
    _call("mount", *encoded, ctypes.c_ulong(flags), options.encode() if options else None)


def _call(name, *args):
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
