"""A network watched while it trains: when it agrees with a panel, and when it is right."""
