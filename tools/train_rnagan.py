"""The command `rnagan train-rnagan` as a script."""

from rnagan.commands.train_rnagan import main

if __name__ == "__main__":
    main()
