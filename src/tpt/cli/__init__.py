"""The command line: settings, errors in a sentence, composing, resume, sweeps, and the programs."""
