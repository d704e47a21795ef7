"""What unlabeled images are worth: pretraining on a substrate, then fine-tuning on few labels."""
