"""What chance gives: nulls under permuted rows in closed form and by sampling."""
