"""Exams: set in the conductor, answered in an exam sandbox that holds no answers, marked in the conductor."""
