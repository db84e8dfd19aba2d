"""`python -m operando.station` is the command `operando`."""

from operando.station.cli import main

main()
