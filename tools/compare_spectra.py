"""The command `rnagan compare-spectra` as a script."""

from rnagan.commands.compare_spectra import main

if __name__ == "__main__":
    main()
