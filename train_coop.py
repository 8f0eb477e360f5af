"""Few-shot training of a context: `python train_coop.py`, the same as `tpt-train`; `--help` lists all settings."""

from tpt.programs.train_coop import main

if __name__ == "__main__":
    main()
