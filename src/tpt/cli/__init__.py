"""The command line: settings, error messages, composing a configuration, resume, sweeps, and the programs."""
