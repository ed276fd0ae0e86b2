"""The command `rnagan sync-mlflow` as a script."""

from rnagan.commands.sync_mlflow import main

if __name__ == "__main__":
    main()
