"""What a process started by tests/programs.py becomes: the program of `GIVEN`, with its folder, environment, files."""

import atexit
import os
import runpy
import signal
import sys
from pathlib import Path

import torch

words, folder, environment, out, err = GIVEN  # noqa: F821, of runpy.run_path
os.environ.clear()
os.environ.update(environment)
os.chdir(folder)
if "OMP_NUM_THREADS" in environment:  # PyTorch has read the server's
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
for stream, path in ((1, out), (2, err)):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, stream)
    os.close(file)
sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
sys.path[:0] = [str(Path(__file__).parents[1]), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):  # which the server of loaders' workers ignores
    signal.signal(number, signal.SIG_DFL)
sys.argv = list(words)
try:
    if words[0] == "rnagan":
        from rnagan.commands.main import main

        main(prog_name="rnagan")
    else:
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")
finally:
    atexit._run_exitfuncs()
    sys.stdout.flush()
