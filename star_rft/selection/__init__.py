"""From a round's traces to what it trains on: rules, and preference pairs."""
