from collections import Counter

from instar.contracts.records import Author, Design, Forecast, Proposal
from instar.contracts.space import Space


class Neighbour:
    name, space = "neighbour", Space({})  # it has no settings of its own

    def __init__(self, lab_name, lab_space, rng):
        self.lab, self.lab_space, self.rng = lab_name, lab_space, rng
        self.best, self.ended = (0.0, None), Counter()

    def aim(self, brief):
        return max(brief.goals, key=lambda goal: goal.progress)

    def observe(self, seen):
        gain = seen.trial.gain
        self.ended[gain is not None and gain > 0] += 1
        if gain is not None and gain > self.best[0]:
            self.best = (gain, seen.proposal.design.parameters)

    def propose(self, brief):
        start = self.best[1] or brief.incumbent.design.parameters
        start = {name: start[name] for name in self.lab_space.ranges}
        p_better = (self.ended[True] + 1) / (self.ended.total() + 2)  # the rule of succession
        forecast = Forecast(p_better, brief.incumbent_score if brief.incumbent_score is not None else 0.5, 0.2)
        taken, made = {design.digest for design in brief.pending}, []
        while len(made) < brief.count:
            near = Design(self.lab, self.lab_space.vary(start, 0.5, 0.1, self.rng), brief.incumbent.design.files)
            if near.digest not in taken:
                taken.add(near.digest)
                number, why = brief.first + len(made), f"near the best so far ({self.best[0]:+.3f})"
                made.append(
                    Proposal(number, near, Author(self.name), brief.incumbent.number, brief.goal, why, forecast)
                )
        return made
