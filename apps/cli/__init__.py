"""`braincl …`: the command line, and the launcher of simulated federations."""
