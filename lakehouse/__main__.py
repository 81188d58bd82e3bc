"""`python -m lakehouse` is the command line."""

from lakehouse.cli.main import main

if __name__ == "__main__":
    main()
