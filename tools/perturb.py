"""The command `rnagan perturb` as a script."""

from rnagan.commands.perturb import main

if __name__ == "__main__":
    main()
