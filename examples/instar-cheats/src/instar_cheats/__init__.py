"""A lab for Instar in which nothing can be learned: whoever seems to get better has cheated."""
