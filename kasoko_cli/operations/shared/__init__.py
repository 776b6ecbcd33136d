"""What every capability uses: who acts, what evidence does to an attempt, files, runs and the log of calls."""
