"""``python -m lightretriever`` is the command line."""

from lightretriever.cli.main import main

if __name__ == "__main__":
    main()
