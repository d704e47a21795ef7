"""Further similarity measures, the table of all, and intervals by resampling."""
