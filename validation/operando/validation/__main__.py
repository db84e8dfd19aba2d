"""`python -m operando.validation`: the command line with `validate`."""

from operando.validation.cli import main

main()
