"""What is said in sound: where somebody speaks, and what a recogniser hears."""
