"""Distillation without a teacher: students that learn from labels and a substrate."""
