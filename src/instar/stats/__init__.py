"""Statistics that several rooms use: e-values, intervals, logistic fits, scores of judgement."""
