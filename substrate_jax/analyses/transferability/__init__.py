"""How well scores of a frozen encoder foretell its accuracy on a labeled target."""
