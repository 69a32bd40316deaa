"""``python -m placecard`` is the ``placecard`` command."""

from placecard.cli.main import main

if __name__ == "__main__":
    main()
