"""`python -m relight`."""

import sys

from relight.cli import main

if __name__ == "__main__":
    sys.exit(main())
