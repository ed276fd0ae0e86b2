"""What the system says of files and disks, as a sentence that says what to do."""

import errno
from pathlib import Path

_KEPT = "and start again, what is finished is kept"
_LARGER_LIMIT = f"raise the limit (ulimit -n 4096), use fewer workers {_KEPT}"
_SENTENCES = {
    errno.ENOSPC: f"the disk is full ({{path}}); free space {_KEPT}",
    errno.EDQUOT: f"the disk quota is used up ({{path}}); free space or ask for more {_KEPT}",
    errno.EFBIG: f"{{path}} becomes larger than a file may be here; raise the limit (ulimit -f) {_KEPT}",
    errno.EIO: f"the disk of {{path}} can't be read or written; see to it (dmesg says more) {_KEPT}",
    errno.EROFS: "{path} can't be written, its disk is read-only; choose another place, or mount it for writing",
    errno.EACCES: "{path} can't be opened, permission is denied; choose another place, or change its permissions",
    errno.EPERM: "{path} can't be changed, which the system doesn't permit; choose another place",
    errno.EMFILE: f"this process may not open more files ({{path}}); {_LARGER_LIMIT}",
    errno.ENFILE: f"this machine can't open more files ({{path}}); {_LARGER_LIMIT}",
    errno.ENAMETOOLONG: "{path} is too long a name for its disk; choose a shorter one",
    errno.ENOTDIR: "{path} lies below a file, where a folder is needed; choose another place",
    errno.EEXIST: "{path} is in the way, where a folder is needed; remove it, or choose another place",
    errno.EISDIR: "{path} is a folder, where a file is needed; choose another name",
    errno.ENOENT: "{path} does not exist",
    errno.ESTALE: f"{{path}} was changed by another machine meanwhile; look at its disk {_KEPT}",
}
CONCERNS_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)  # not one of many inputs alone


def in_words(error: OSError) -> str:
    """One sentence for the user. An error with a sentence of our own keeps it; "[Errno 28]" is never shown."""
    if error.errno is None or error.strerror is None:
        return str(error)
    path = _shown(error.filename) if isinstance(error.filename, str | bytes | Path) else ""
    if error.errno not in _SENTENCES:
        return f"{path}: {error.strerror}." if path else f"{error.strerror}."
    return _SENTENCES[error.errno].format(path=path or "while writing") + "."


def _shown(name: str | bytes | Path) -> str:
    """A path as the user knows it: without the temporary folder in which the file is written."""
    path = Path(name.decode(errors="replace") if isinstance(name, bytes) else name)
    return str(Path(*(part for part in path.parts if not part.startswith(".tmp-"))))
