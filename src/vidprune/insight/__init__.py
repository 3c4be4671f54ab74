"""What a forward lets be seen of itself: which tokens go and why, in numbers; nothing is drawn."""
