"""The command `rnagan reproduce` as a script."""

from rnagan.commands.reproduce import main

if __name__ == "__main__":
    main()
