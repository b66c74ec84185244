"""Exams: set in the conductor, sat in an exam sandbox that holds no answers, marked in the conductor."""
