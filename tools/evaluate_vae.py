"""The command `rnagan evaluate-vae` as a script."""

from rnagan.commands.evaluate_vae import main

if __name__ == "__main__":
    main()
