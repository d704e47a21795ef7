"""Whether two modalities, such as pictures and sounds, agree on matched rows."""
