"""`python -m rnagan` is the console script `rnagan`."""

from rnagan.commands.main import main

if __name__ == "__main__":
    main(prog_name="rnagan")
