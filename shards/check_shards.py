"""The command `rnagan check-shards` as a script."""

from rnagan.commands.check_shards import main

if __name__ == "__main__":
    main()
