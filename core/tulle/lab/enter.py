"""Runs one program inside a lab: enters the namespaces, forks, executes. One process, about 20 ms.

    enter KIND=PATH... [--detach LOG] -- PROGRAM ARGUMENT...

Standard input, output and error are the caller's, the exit status is the program's (128 + n after signal n, 127 where
it does not exist). A signal that asks us to end is passed on; if we are killed, the program is killed too. With
--detach the program is a child of the lab's init instead, writes to the file LOG (a path inside), and we end at once.
Standard library only, and no site-packages: it is started with `python -I -S`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import MutableMapping
from types import FrameType
from typing import NoReturn

from tulle.lab import namespaces as ns

NOT_FOUND = 127  # as shells answer (POSIX, 2.8.2)
NOT_EXECUTABLE = 126
AFTER_SIGNAL = 128

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)

SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def main(argv: list[str]) -> int:
    """See the module. Returns what the process is to exit with."""
    split = argv.index("--")
    options, program = argv[:split], argv[split + 1 :]
    log = None
    if "--detach" in options:
        position = options.index("--detach")
        log = options[position + 1]
        del options[position : position + 2]
    try:
        enter(options)
    except OSError as error:
        print(f"tulle lab: the lab has ended, or cannot be entered ({error})", file=sys.stderr)
        return NOT_EXECUTABLE
    os.environ["PATH"] = os.pathsep.join(search_path(os.environ.get("PATH", os.defpath)))
    forget_the_machine(os.environ)
    return attached(program) if log is None else detached(program, log)


def search_path(given: str) -> list[str]:
    """Who is root inside but not outside often has no sbin in the path, where ip and nft lie; and `tulle` is to be
    found there too when it was started by its path."""
    path = given.split(os.pathsep)
    extra = (*SYSTEM_PATH, os.path.dirname(sys.executable))
    return path + [folder for folder in extra if folder not in path]


def forget_the_machine(environ: MutableMapping[str, str]) -> None:
    """The settings of this machine's own tulled, in environment or config file, are none of the lab's nodes."""
    for name in [one for one in environ if one.startswith(("TULLED_", "FLANNELD_"))]:
        del environ[name]
    environ["TULLED_CONFIG_FILE"] = os.devnull


def enter(pairs: list[str]) -> None:
    """Enter the given namespaces; all files are opened first, since the mount namespace changes every path."""
    opened = {}
    for pair in pairs:
        kind, _, path = pair.partition("=")
        opened[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    for kind, flag in ns.KINDS.items():
        if kind in opened:
            ns.setns(opened[kind], flag)
            os.close(opened[kind])


def attached(program: list[str]) -> int:
    """Run the program as our child and end as it ends."""
    child = os.fork()
    if child == 0:
        ns.die_with_parent(signal.SIGKILL)
        execute(program)

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    for number in FROM_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)  # the terminal gives them to the program itself
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else AFTER_SIGNAL - code


def detached(program: list[str], log: str) -> int:
    """Leave the program to the lab's init. Returns when it is being executed or cannot be."""
    told, teller = os.pipe()  # closed by a successful execve
    middle = os.fork()
    if middle == 0:
        # The child's parent must have lived inside the lab: the kernel gives an orphan to the init of the
        # process namespace of its parent, not of its own.
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(told)
        null = os.open("/dev/null", os.O_RDONLY)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream, target in enumerate((null, file, file)):
            os.dup2(target, stream)
        execute(program, teller)
    os.close(teller)
    os.waitpid(middle, 0)
    return int.from_bytes(os.read(told, 1), "big")


def execute(program: list[str], teller: int | None = None) -> NoReturn:
    """Become the program. Python ignores SIGPIPE and SIGXFSZ; what we execute is not to inherit that."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        print(f"tulle lab: cannot run {program[0]!r} there: {error.strerror}", file=sys.stderr, flush=True)
        if teller is not None:
            os.write(teller, bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
