"""`python -m debiasctl`."""

from debiasctl.cli.app import main

if __name__ == "__main__":
    main()
