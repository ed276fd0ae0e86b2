"""The command `rnagan compute-fid` as a script."""

from rnagan.commands.compute_fid import main

if __name__ == "__main__":
    main()
