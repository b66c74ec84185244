"""Room: stats. Error rates that hold: e-values, intervals, the horizon. Imports records and errors only."""
