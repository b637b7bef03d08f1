"""`python -m selfreward` is the `selfreward` command."""

from selfreward.cli import main

main()
