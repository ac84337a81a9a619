"""Selection of a round's training data: rules over traces, and preference pairs."""
