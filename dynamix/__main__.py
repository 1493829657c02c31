"""`python -m dynamix`, as torchrun calls it."""

from dynamix.cli import main

if __name__ == "__main__":
    main()
