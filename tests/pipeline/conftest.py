"""The tiny tower of the command line's tests."""

from cli.conftest import tower as tower
