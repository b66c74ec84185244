"""Questions asked of runs, each with a figure as its answer."""
