"""`python -m tpt` lists the programs."""

import sys

from tpt.cli.places import PROGRAMS
from tpt.results.runs.version import __version__


def main() -> None:
    """Prints a line for each program; exits 2 if it is given anything but --help."""
    if sys.argv[1:] == ["--version"]:
        print(f"tpt {__version__}")
        return
    if sys.argv[1:] not in ([], ["-h"], ["--help"]):
        print(f"Error: Expected no argument, got {sys.argv[1]!r}; call a program, such as tpt-test.", file=sys.stderr)
        sys.exit(2)
    print(f"tpt {__version__}, test-time prompt tuning of CLIP-like models. Programs, each with --help:\n")
    width = max(map(len, PROGRAMS))
    for name, (_, what) in PROGRAMS.items():
        print(f"    {name:{width}}  {what}")


if __name__ == "__main__":
    main()
