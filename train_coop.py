"""Few-shot training of a context: `python train_coop.py`, the same as `tpt-train`; `--help` lists all settings."""

from tpt.cli.programs.opening import train_coop

if __name__ == "__main__":
    train_coop()
