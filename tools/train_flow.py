"""The command `rnagan train-flow` as a script."""

from rnagan.commands.train_flow import main

if __name__ == "__main__":
    main()
