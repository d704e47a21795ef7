"""What launchers share: flags, errors, output folder, loading encoders and domains."""
