"""What a run costs, computed from the work of its programs and the rates of its machine."""
