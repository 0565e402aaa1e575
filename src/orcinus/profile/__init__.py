"""Where the time of an iteration goes, operator by operator, beside this machine's floor."""
