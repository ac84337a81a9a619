"""The command line as `python -m star_rft.cli`."""

from star_rft.cli import main

main()
