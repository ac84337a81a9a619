"""The command line, as `python -m star_rft`."""

from star_rft.cli import main

main()
