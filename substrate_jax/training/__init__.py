"""Training: objectives, augmentation, and a loop that resumes."""
