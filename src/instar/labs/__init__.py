"""What is being improved: tiles, speedrun, a repository of yours (command), or plain functions in one file."""
