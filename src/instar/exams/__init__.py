"""Exams: set in the conductor, sat in an exam room that holds no answers, marked in the conductor."""
