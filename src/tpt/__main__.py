"""`python -m tpt` lists the programs."""

from tpt.cli.places import PROGRAMS
from tpt.cli.programs.arguments import new_parser
from tpt.results.runs.version import __version__


def main() -> None:
    """Prints a line for each program; exits 2 if it is given anything but --help or --version."""
    lines = [f"    {name:11}  {what}" for name, (_, what) in PROGRAMS.items()]
    text = "Test-time prompt tuning of CLIP-like models. Programs, each with --help:\n\n" + "\n".join(lines)
    print(f"tpt {__version__}" if new_parser("python -m tpt", text).parse_args().version else text)


if __name__ == "__main__":
    main()
