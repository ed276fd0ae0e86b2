"""The command `rnagan gpu-check` as a script."""

from rnagan.commands.gpu_check import main

if __name__ == "__main__":
    main()
