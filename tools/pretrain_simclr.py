"""The command `rnagan pretrain-simclr` as a script."""

from rnagan.commands.pretrain_simclr import main

if __name__ == "__main__":
    main()
