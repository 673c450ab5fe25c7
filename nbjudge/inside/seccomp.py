"""Which system calls student code may make: a filter that a kernel puts on itself, for good.

What a notebook has no use for and what reaches the machine or the neighbours is refused, because
namespaces do not hold it: memory that no watch can see, quotas that all kernels of one user share,
families of sockets that lead out, and whatever is seldom used and often broken.
"""

import ctypes
import errno
import fcntl
import platform
import socket
import struct

# <sched.h>, <sys/mman.h>, <linux/prctl.h>
NEWNS, NEWCGROUP, NEWUTS = 0x20000, 0x2000000, 0x4000000
NEWIPC, NEWUSER, NEWPID, NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000
_CLONE_FILES, _CLONE_THREAD = 0x400, 0x10000
_MAP_SHARED, _MAP_ANONYMOUS, _MAP_HUGETLB = 0x01, 0x20, 0x40000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

# Machine → its number in <linux/audit.h>, and the column of the tables below.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# From here on system calls are newer than this list; libraries know how to do without them.
_UNKNOWN = 457
_CLONE3, _CLONE, _MMAP = (435, 435), (56, 220), (9, 222)
_SOCKET, _SOCKETPAIR, _SETSOCKOPT, _FCNTL = (41, 198), (53, 199), (54, 208), (72, 25)
# Name → its number on each machine; None where there is none.
_DENIED = {
    # Namespaces, mounts and roots: the way out of what `jail.isolate` made.
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
    # Files by number instead of by path, wherever they lie; quotas of the file system.
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "lookup_dcookie": (212, 18),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # Memory, files and threads of other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # The machine as a whole: its clock, name, log, swap, modules and ports.
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "nfsservctl": (180, 42),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    # What all processes of a user share: keys, watches of files, requests to the disk and their
    # rank. One kernel could use up its neighbours', or see what they open.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "io_setup": (206, 0),
    "ioprio_set": (251, 30),
    # Memory that belongs to no process, so that no watch finds it; multiprocessing and torch share
    # theirs through /dev/shm, whose size is limited.
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_secret": (447, 447),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    # Deep in the system, and a frequent way into it.
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
}
# Of the same kind, but the driver of a card shares memory with its device in ways of its own.
_DENIED_WITHOUT_CARD = {"memfd_create": (319, 279)}
# ZeroMQ asks for the names of interfaces when it starts, through netlink's protocol 0.
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
# Others would have Linux load the module of a protocol that nobody needs.
_PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
# Whoever has a lease of a file has others wait who want to write to it, also outside; a notice of
# changes is one of the neighbours' doings; and a user has only so much for large pipes.
_COMMANDS = (fcntl.F_SETLEASE, fcntl.F_NOTIFY, fcntl.F_SETPIPE_SZ)
_BUFFERS = (socket.SO_SNDBUF, socket.SO_RCVBUF)

# Instructions of classic BPF, see seccomp(2).
_LOAD, _EQUAL, _AT_LEAST, _ALL_OF, _ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x54, 0x45, 0x06
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050000


def filter_system_calls(with_card: bool = False) -> None:
    """Refuse, from now on and in all children, what this module lists.

    Args:
        with_card: whether a card's driver must be able to share memory.

    """
    if platform.machine() not in _MACHINES:
        raise OSError(f"the sandbox knows no system calls of {platform.machine()}")
    program = _program(*_MACHINES[platform.machine()], with_card)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    pointer = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter of system calls was refused")


def _program(machine, column, with_card):
    denied = _DENIED if with_card else _DENIED | _DENIED_WITHOUT_CARD
    numbers = [found[column] for found in denied.values() if found[column] is not None]
    return [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, machine),
        (_ANSWER, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        # Also the second set of numbers that x86-64 machines understand.
        (_AT_LEAST, 0, 1, _UNKNOWN),
        _refuse(errno.ENOSYS),
        # The flags of clone3 lie in memory, where no filter can look; without it libc takes clone.
        (_EQUAL, 0, 1, _CLONE3[column]),
        _refuse(errno.ENOSYS),
        *_each_refused(numbers),
        *_for_call(_CLONE[column], _no_such_children()),
        *_for_call(_SOCKET[column], _known_sockets()),
        *_for_call(_SOCKETPAIR[column], _known_sockets()),
        *_for_call(_SETSOCKOPT[column], _no_larger_buffers()),
        *_for_call(_FCNTL[column], [_argument(1), *_each_refused(_COMMANDS)]),
        *([] if with_card else _for_call(_MMAP[column], _no_shared_memory())),
        (_ANSWER, 0, 0, _ALLOW),
    ]


def _for_call(number, lines):
    """Lines for one system call only; they end with an answer, or give the call free."""
    return [(_EQUAL, 0, len(lines) + 1, number), *lines, (_ANSWER, 0, 0, _ALLOW)]


def _refuse(number):
    return (_ANSWER, 0, 0, _REFUSE | number)


def _each_refused(values):
    return [line for v in values for line in ((_EQUAL, 0, 1, v), _refuse(errno.EPERM))]


def _argument(position):
    """Load the lower half of an argument; Linux looks at no more of those that are asked for."""
    return (_LOAD, 0, 0, 16 + 8 * position)


def _none_of(values, number):
    """Refuse a value that is not among these."""
    values = list(values)
    steps = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [*steps, _refuse(number)]


def _no_such_children():
    new = NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP
    return [
        _argument(0),
        (_ANY_BIT, 0, 1, new),
        _refuse(errno.EPERM),
        # Open files of its own that a thread has would be counted nowhere.
        (_ALL_OF, 0, 0, _CLONE_THREAD | _CLONE_FILES),
        (_EQUAL, 0, 1, _CLONE_THREAD),
        _refuse(errno.EPERM),
    ]


def _known_sockets():
    return [
        _argument(0),
        *_none_of(_FAMILIES, errno.EAFNOSUPPORT),
        (_EQUAL, 0, 4, socket.AF_NETLINK),
        _argument(2),
        (_EQUAL, 1, 0, socket.NETLINK_ROUTE),
        _refuse(errno.EPROTONOSUPPORT),
        (_ANSWER, 0, 0, _ALLOW),
        _argument(2),
        *_none_of(_PROTOCOLS, errno.EPROTONOSUPPORT),
    ]


def _no_larger_buffers():
    """What waits in a socket is memory too, and counted by what a socket can hold by default."""
    lines = _each_refused(_BUFFERS)
    return [_argument(1), (_EQUAL, 0, len(lines) + 1, socket.SOL_SOCKET), _argument(2), *lines]


def _no_shared_memory():
    """Pages that stay when no process has them any more, and huge ones that nobody counts."""
    both = _MAP_SHARED | _MAP_ANONYMOUS
    return [
        _argument(3),
        (_ANY_BIT, 0, 1, _MAP_HUGETLB),
        _refuse(errno.ENOMEM),
        (_ALL_OF, 0, 0, both),
        (_EQUAL, 0, 1, both),
        _refuse(errno.ENOMEM),
    ]
