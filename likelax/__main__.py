"""`python -m likelax tour`: the main job."""

import sys

from likelax.tour import main

sys.exit(main(sys.argv[1:]))
