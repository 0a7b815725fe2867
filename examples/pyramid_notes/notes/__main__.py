"""``python -m notes [FILE.ini]``: serve the notebook."""

import sys

from pyramid.scripts.pserve import main

if __name__ == "__main__":
    sys.exit(main(["pserve", *(sys.argv[1:] or ["development.ini"])]))
