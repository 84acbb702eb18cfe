# A process that nobody can read the arguments of: somebody reads its memory from a file system that does not
# answer, and has the lock of that memory meanwhile; itself it waits for that lock.
import ctypes, os, signal, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
ROOT, FILE = 1, 2
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, INTERRUPT = 1, 2, 3, 14, 15, 26, 36


def done(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mounted(where):
    """A file system (fuse(4)) that only this process and its children see, by its descriptor."""
    done(libc.unshare(0x20000))  # CLONE_NEWNS
    done(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
    device = os.open("/dev/fuse", os.O_RDWR)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % device
    done(libc.mount(b"stuck", where.encode(), b"fuse", 0, options))
    return device


def attributes(node):
    mode = 0o40755 if node == ROOT else 0o100644
    return struct.pack("<6Q10I", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def serve(device, told):
    answers = {
        INIT: lambda node: struct.pack("<4I2H2I2H2I", 7, 31, 1 << 16, 0, 12, 9, 1 << 16, 1, 1, 0, 0, 0),
        LOOKUP: lambda node: struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE),
        GETATTR: lambda node: struct.pack("<Q2I", 3600, 0, 0) + attributes(node),
        OPEN: lambda node: struct.pack("<Q2I", 0, 0, 0),
    }
    while True:
        _, asked, unique, node = struct.unpack("<2I2Q", os.read(device, 1 << 17)[:24])
        if asked == READ:
            os.write(told, b"!")
        elif asked not in (FORGET, INTERRUPT):
            body = answers[asked](node) if asked in answers else b""
            body = body.ljust(64, b"\0") if asked == INIT else body
            error = 0 if body else -38  # ENOSYS
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def name(it):
    libc.prctl(15, it)  # PR_SET_NAME


signal.signal(signal.SIGHUP, signal.SIG_IGN)
where = sys.argv[1]
device = mounted(where)
asked, told = os.pipe()
if os.fork() == 0:
    name(b"keeper")
    serve(device, told)
os.close(device)
file = os.open(where + "/file", os.O_RDONLY)
at = libc.mmap(None, 4096, 1, 2, file, 0)
if os.fork() == 0:
    name(b"reader")
    os.pread(os.open("/proc/%d/mem" % os.getppid(), os.O_RDONLY), 1, at)
os.read(asked, 1)
print("stuck", flush=True)
libc.mmap(None, 4096, 1, 0x22, -1, 0)
