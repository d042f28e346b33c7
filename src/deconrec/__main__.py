"""`python -m deconrec`, which torchrun starts as `torchrun -m deconrec`."""

from deconrec.cli import main

main()
