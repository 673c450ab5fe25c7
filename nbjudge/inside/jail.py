"""What keeps the kernels of one sandbox apart: namespaces, limits, and no way back.

Linux only, and only inside bubblewrap (see `sandbox`), which keeps the rest of the machine out.
Here a process is forked into a process tree of its own, gives itself a network and temporary
directories of its own, and then gives up every right to change them.
"""

import ctypes
import os
import resource
import struct

from nbjudge.inside.seccomp import NEWIPC, NEWNET, NEWNS, NEWPID, NEWUSER, filter_system_calls

_libc = ctypes.CDLL(None, use_errno=True)

# <sys/mount.h>, <sys/prctl.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
# What a mount cannot lose once it is in a namespace below that in which it was made.
LOCKED = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
LAST_CAPABILITY = 40
# An empty file takes memory too, though none of its file system's.
MOST_FILES, MOST_TERMINALS = 16_384, 16


def on_a_card() -> bool:
    """Whether checks run on a card: then nothing may touch it before a kernel is forked."""
    return os.environ.get("NBJUDGE_DEVICE", "").startswith("cuda")


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
        for folder in reversed(_mounted_beneath("/proc")):
            _call("umount2", folder.encode(), 0)
    _leave(NEWUSER | NEWPID)
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        os._exit(1 if status else 0)


def fork_apart() -> int:
    """Fork a child that is the first process of a tree of its own; it sees no other process.

    Only after `lead`, which gives the right to do so.

    Returns:
        The child's process id; 0 in the child.

    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _call("unshare", NEWPID)
    pid = os.fork()
    if pid:
        # Else the next child would belong to the same tree.
        _call("setns", own, NEWPID)
    os.close(own)
    return pid


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
    for device, options in _mounted_beneath("/dev").items():
        # It can be written to all the same, but root's own could be closed to the whole machine.
        kept = sum(flag for name, flag in LOCKED.items() if name in options)
        _mount(None, device, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)
    _mount("tmpfs", hidden, "tmpfs", MS_RDONLY, "size=4k")
    for folder, size in writable.items():
        options = f"size={size},nr_inodes={MOST_FILES},mode=700"
        _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, options)
    # Terminals of its own: with the others' numbers one could write into them.
    options = f"newinstance,ptmxmode=0666,mode=600,max={MOST_TERMINALS}"
    _mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)
    if not with_proc:
        # No other process can be seen from here; this hides what the old /proc still shows.
        _mount("tmpfs", "/proc", "tmpfs", MS_RDONLY, "size=4k")


def give_up_rights(with_card: bool = False) -> None:
    """No capabilities, no way to gain any, and no system calls that reach out of the namespaces.

    Args:
        with_card: whether a card's driver must be able to work.

    """
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("II", 0x20080522, 0)
    _call("capset", header, bytes(24))
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filter_system_calls(with_card)


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
        cpu_seconds: processor time; `watch` ends the tree first and can say why.
        processes: and threads, all together.
        open_files: in one process.
        file_size: bytes of one file.
        any_address: leave memory to `watch`; CUDA reserves more addresses than there is memory.

    """
    for kind, most in (
        (resource.RLIMIT_AS, resource.RLIM_INFINITY if any_address else memory),
        (resource.RLIMIT_CPU, cpu_seconds + 5),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
        # Kernels of one user share what the system keeps of these.
        (resource.RLIMIT_SIGPENDING, 256),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_RTPRIO, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _mounted_beneath(folder):
    """Where something is mounted beneath a folder, the outermost first; with its options."""
    with open("/proc/self/mountinfo") as file:
        found = [line.split()[4:6] for line in file]
    return {place: options.split(",") for place, options in found if place.startswith(f"{folder}/")}


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


def _mount(source, target, kind, flags, options=None):
    encoded = [text.encode() if text else None for text in (source, target, kind)]
    _call("mount", *encoded, ctypes.c_ulong(flags), options.encode() if options else None)


def _call(name, *args):
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
