"""The command `rnagan doctor` as a script."""

from rnagan.commands.doctor import main

if __name__ == "__main__":
    main()
