"""Room: builders, who propose designs. Built-in: `incumbent` (the model's own designer) and `random` (the control).

Read `incumbent` first; it leans on `designer` (what a generation learned), `lessons` (what it learned from),
`families` (how it learns) and `goals` (what it pushes next). `uniform` is the control.
"""
