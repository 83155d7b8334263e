"""``python -m mergebook.cli``: the command line without an installed script."""

import sys

from mergebook.cli import main

if __name__ == "__main__":
    sys.exit(main())
