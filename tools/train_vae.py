"""The command `rnagan train-vae` as a script."""

from rnagan.commands.train_vae import main

if __name__ == "__main__":
    main()
