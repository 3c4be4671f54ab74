"""`python -m vidprune`, which is also how torchrun starts it."""

import sys

from vidprune.cli import main

sys.exit(main())
