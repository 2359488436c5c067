"""What the command tools/arenal is made of. commands/ has one module for each of its commands."""
