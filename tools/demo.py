"""The command `rnagan demo` as a script."""

from rnagan.commands.demo import main

if __name__ == "__main__":
    main()
