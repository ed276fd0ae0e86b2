"""The command `rnagan compare-generators` as a script."""

from rnagan.commands.compare_generators import main

if __name__ == "__main__":
    main()
