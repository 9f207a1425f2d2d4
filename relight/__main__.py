"""`python -m relight`."""

from __future__ import annotations

import sys

from relight.cli import main

if __name__ == "__main__":
    sys.exit(main())
