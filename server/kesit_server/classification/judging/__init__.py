"""How good a model is on customers held out, with intervals over sampling and noise."""
